/* rANS coder of int32 symbols under integer tables. Specified in docs/bitstream.md.
 *
 * One portable C99 file without dependencies or allocation. Every function takes
 * lengths, checks them, and returns a negative SC_ code instead of reading or
 * writing out of bounds, whatever the stream holds. Tables must have passed
 * sc_rans_prepare, which is also what fills the search index. */
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SC_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define SC_EXPORT __attribute__((visibility("default")))
#else
#define SC_EXPORT
#endif

#define SC_CORRUPT (-1) /* not a stream this encoder writes for these tables */
#define SC_SPACE (-2)   /* output buffer too small */
#define SC_ROW (-3)     /* a row number outside the tables, or a bad run length */
#define SC_TABLES (-4)  /* tables break their invariants */

#define TOTAL 65536u
#define LOWER ((uint64_t)1 << 31)
#define BUCKETS 1024 /* of 64 slots each: the index of one row is 2 KiB */
#define NIBBLE 4096u /* frequency of one of 16 equal fields */

typedef struct {
    const uint32_t *cdf;   /* [rows][stride] */
    const int32_t *length; /* [rows]: slots, the escape last */
    const int32_t *offset; /* [rows]: value of slot 0 */
    uint16_t *index;       /* [rows][BUCKETS]: first slot that may hold a bucket */
    int32_t rows, stride;
} sc_tables;

typedef struct {
    uint64_t x;
    uint8_t *begin, *p; /* words grow downwards from the end of the buffer */
    int full;
} encoder;

typedef struct {
    uint64_t x;
    const uint8_t *p, *end; /* whole 32-bit words */
} decoder;

/* Rows chosen by the symbols before: section 6 of docs/bitstream.md. Its sums fit
 * int32, edges rise and every row lies in the tables: the caller has checked it. */
typedef struct {
    const int16_t *weights; /* [5 channels][channels] */
    const int32_t *edges;   /* [channels][classes - 1] */
    int32_t height, width, channels, classes;
} sc_context;

#define REACH 127 /* a symbol counts in a sum as one of -127 .. 127 */

SC_EXPORT int32_t sc_rans_version(void) { return 2; }

/* Checks the tables and fills their index. 0 or SC_TABLES. */
SC_EXPORT int32_t sc_rans_prepare(const sc_tables *t) {
    for (int32_t r = 0; r < t->rows; r++) {
        const uint32_t *cdf = t->cdf + (size_t)r * (size_t)t->stride;
        uint16_t *index = t->index + (size_t)r * BUCKETS;
        int32_t n = t->length[r], slot = 0;
        if (n < 1 || n >= t->stride || cdf[0] != 0 || cdf[n] != TOTAL) return SC_TABLES;
        if ((int64_t)t->offset[r] + n - 2 > INT32_MAX) return SC_TABLES;
        for (int32_t i = 0; i < n; i++)
            if (cdf[i + 1] <= cdf[i]) return SC_TABLES;
        for (uint32_t b = 0; b < BUCKETS; b++) {
            while (cdf[slot + 1] <= b * (TOTAL / BUCKETS)) slot++;
            index[b] = (uint16_t)slot;
        }
    }
    return 0;
}

static inline void push(encoder *e, uint32_t start, uint32_t freq) {
    uint64_t x = e->x;
    if (x >= (uint64_t)freq << 47) {
        if (e->p - e->begin < 4) {
            e->full = 1;
        } else {
            e->p -= 4;
            for (int k = 0; k < 4; k++) e->p[k] = (uint8_t)(x >> (8 * k));
        }
        x >>= 32;
    }
    uint64_t q = x / freq;
    e->x = (q << 16) + (x - q * freq) + start;
}

/* The digits behind an escape; raw < 2^36. Pushed backwards: the count comes last. */
static void push_raw(encoder *e, uint64_t raw) {
    uint32_t digits = 0;
    while (raw >> (4 * digits)) digits++;
    for (uint32_t k = digits; k-- > 0;)
        push(e, NIBBLE * (uint32_t)((raw >> (4 * k)) & 15), NIBBLE);
    push(e, NIBBLE * digits, NIBBLE);
}

/* `count` symbols of one row, last first. */
static inline void push_row(encoder *e, const sc_tables *t, size_t r,
                            const int32_t *symbols, size_t count) {
    const uint32_t *cdf = t->cdf + r * (size_t)t->stride;
    const uint64_t escape = (uint64_t)t->length[r] - 1;
    const int64_t offset = t->offset[r];
    for (size_t i = count; i-- > 0;) {
        int64_t over = (int64_t)symbols[i] - offset;
        uint64_t slot = (uint64_t)over;
        if (slot >= escape) { /* negative values wrap to the far end */
            slot = escape;
            push_raw(e, over < 0 ? 2 * (uint64_t)(-over - 1) + 1
                                 : 2 * ((uint64_t)over - escape));
        }
        push(e, cdf[slot], cdf[slot + 1] - cdf[slot]);
    }
}

/* Writes the stream to the END of out[capacity] and returns its bytes, or SC_.
 * rows NULL: symbol i belongs to row i / (count / t->rows). */
SC_EXPORT int64_t sc_rans_encode(const sc_tables *t, const int32_t *symbols,
                                 const uint16_t *rows, size_t count, uint8_t *out,
                                 size_t capacity) {
    encoder e = {0, out, out + capacity, 0};
    if (rows) {
        for (size_t i = count; i-- > 0;) {
            if (rows[i] >= t->rows) return SC_ROW;
            push_row(&e, t, rows[i], symbols + i, 1);
        }
    } else if (count) {
        if (t->rows < 1 || count % (size_t)t->rows) return SC_ROW;
        size_t run = count / (size_t)t->rows;
        for (size_t r = (size_t)t->rows; r-- > 0;)
            push_row(&e, t, r, symbols + r * run, run);
    }
    int size = e.p == out + capacity && !e.full ? 0 : 5;
    while (size < 8 && e.x >> (8 * size)) size++;
    if (e.full || e.p - e.begin < size) return SC_SPACE;
    e.p -= size;
    for (int k = 0; k < size; k++) e.p[k] = (uint8_t)(e.x >> (8 * k));
    return (int64_t)(out + capacity - e.p);
}

static inline void advance(decoder *d, uint32_t slot, uint32_t start, uint32_t freq) {
    uint64_t x = (uint64_t)freq * (d->x >> 16) + slot - start;
    if (x < LOWER && d->p != d->end) {
        const uint8_t *p = d->p;
        x = x << 32 | (p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                       (uint32_t)p[3] << 24);
        d->p += 4;
    }
    d->x = x;
}

static inline uint32_t pop_nibble(decoder *d) {
    uint32_t slot = (uint32_t)d->x & (TOTAL - 1), digit = slot / NIBBLE;
    advance(d, slot, digit * NIBBLE, NIBBLE);
    return digit;
}

/* The value behind an escape, or 0 with *error set. */
static int32_t pop_raw(decoder *d, int64_t offset, int64_t escape, int *error) {
    uint32_t digits = pop_nibble(d), digit = 1;
    uint64_t raw = 0;
    if (digits > 9) {
        *error = 1;
        return 0;
    }
    for (uint32_t k = 0; k < digits; k++) {
        digit = pop_nibble(d);
        raw |= (uint64_t)digit << (4 * k);
    }
    int64_t half = (int64_t)(raw >> 1);
    int64_t value = raw & 1 ? offset - 1 - half : offset + escape + half;
    if (digit == 0 || value < INT32_MIN || value > INT32_MAX) {
        *error = 1;
        return 0;
    }
    return (int32_t)value;
}

static inline int pop_row(decoder *state, const sc_tables *t, size_t r, int32_t *out,
                          size_t count) {
    const uint32_t *cdf = t->cdf + r * (size_t)t->stride;
    const uint16_t *index = t->index + r * BUCKETS;
    const uint32_t escape = (uint32_t)t->length[r] - 1;
    const int64_t offset = t->offset[r];
    decoder d = *state; /* kept in registers */
    int error = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)d.x & (TOTAL - 1);
        uint32_t s = index[slot / (TOTAL / BUCKETS)];
        while (cdf[s + 1] <= slot) s++; /* ends: cdf[length] is above every slot */
        advance(&d, slot, cdf[s], cdf[s + 1] - cdf[s]);
        if (s != escape) {
            out[i] = (int32_t)(offset + s);
        } else {
            out[i] = pop_raw(&d, offset, escape, &error);
            if (error) return SC_CORRUPT;
        }
    }
    *state = d;
    return 0;
}

/* The state at the start of a stream of `size` bytes. 0 or SC_CORRUPT. */
static int open_stream(decoder *d, const uint8_t *data, size_t size) {
    size_t head = size <= 8 ? size : 5 + (size - 5) % 4;
    *d = (decoder){0, data + head, data + size};
    for (size_t k = 0; k < head; k++) d->x |= (uint64_t)data[k] << (8 * k);
    if (d->x >> 63 || (size > 8 && d->x < LOWER)) return SC_CORRUPT;
    if (head > (size > 8 ? 5u : 0u) && data[head - 1] == 0) return SC_CORRUPT;
    return 0;
}

/* Reads exactly `count` symbols from exactly `size` bytes. 0 or SC_. */
SC_EXPORT int32_t sc_rans_decode(const sc_tables *t, const uint8_t *data, size_t size,
                                 const uint16_t *rows, size_t count, int32_t *out) {
    decoder d;
    if (open_stream(&d, data, size)) return SC_CORRUPT;
    if (rows) {
        for (size_t i = 0; i < count; i++) {
            if (rows[i] >= t->rows) return SC_ROW;
            if (pop_row(&d, t, rows[i], out + i, 1)) return SC_CORRUPT;
        }
    } else if (count) {
        if (t->rows < 1 || count % (size_t)t->rows) return SC_ROW;
        size_t run = count / (size_t)t->rows;
        for (size_t r = 0; r < (size_t)t->rows; r++)
            if (pop_row(&d, t, r, out + r * run, run)) return SC_CORRUPT;
    }
    return d.x == 0 && d.p == d.end ? 0 : SC_CORRUPT;
}

/* sums[channels] += weights[channels] * symbol. */
static inline void weigh(int32_t *sums, const int16_t *weights, int32_t symbol,
                         int32_t channels) {
    if (symbol > REACH) symbol = REACH;
    if (symbol < -REACH) symbol = -REACH;
    if (symbol == 0) return; /* most symbols of a low rate */
    for (int32_t c = 0; c < channels; c++) sums[c] += weights[c] * symbol;
}

/* What the places above and to the left add to every channel's sum at (y, x). */
static void weigh_places(int32_t *sums, const sc_context *t, const int32_t *symbols,
                         int32_t y, int32_t x) {
    static const int32_t up[4] = {0, 1, 1, 1}, left[4] = {1, 0, 1, -1};
    const size_t channels = (size_t)t->channels;
    for (size_t c = 0; c < channels; c++) sums[c] = 0;
    for (int n = 0; n < 4; n++) {
        int32_t row = y - up[n], column = x - left[n];
        if (row < 0 || column < 0 || column >= t->width) continue;
        const int32_t *there =
            symbols + ((size_t)row * (size_t)t->width + (size_t)column) * channels;
        const int16_t *weights = t->weights + (size_t)n * channels * channels;
        for (size_t j = 0; j < channels; j++)
            weigh(sums, weights + j * channels, there[j], t->channels);
    }
}

static inline uint16_t row_in_context(const sc_context *t, int32_t c, int32_t sum) {
    const int32_t *edges = t->edges + (size_t)c * (size_t)(t->classes - 1);
    int32_t k = 0;
    while (k < t->classes - 1 && sum >= edges[k]) k++;
    return (uint16_t)(c * t->classes + k);
}

/* The row of each of height x width x channels symbols; sums: room for channels. */
SC_EXPORT void sc_context_rows(const sc_context *t, const int32_t *symbols,
                               int32_t *sums, uint16_t *rows) {
    const size_t channels = (size_t)t->channels;
    const int16_t *here = t->weights + 4 * channels * channels;
    size_t i = 0;
    for (int32_t y = 0; y < t->height; y++)
        for (int32_t x = 0; x < t->width; x++) {
            weigh_places(sums, t, symbols, y, x);
            for (size_t c = 0; c < channels; c++, i++) {
                rows[i] = row_in_context(t, (int32_t)c, sums[c]);
                weigh(sums, here + c * channels, symbols[i], t->channels);
            }
        }
}

/* As sc_rans_decode, each symbol's row chosen by those decoded before it. */
SC_EXPORT int32_t sc_context_decode(const sc_tables *tables, const sc_context *t,
                                    const uint8_t *data, size_t size, int32_t *sums,
                                    int32_t *out) {
    const size_t channels = (size_t)t->channels;
    const int16_t *here = t->weights + 4 * channels * channels;
    decoder d;
    size_t i = 0;
    if (open_stream(&d, data, size)) return SC_CORRUPT;
    for (int32_t y = 0; y < t->height; y++)
        for (int32_t x = 0; x < t->width; x++) {
            weigh_places(sums, t, out, y, x);
            for (size_t c = 0; c < channels; c++, i++) {
                size_t row = row_in_context(t, (int32_t)c, sums[c]);
                if (pop_row(&d, tables, row, out + i, 1)) return SC_CORRUPT;
                weigh(sums, here + c * channels, out[i], t->channels);
            }
        }
    return d.x == 0 && d.p == d.end ? 0 : SC_CORRUPT;
}
