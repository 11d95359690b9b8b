/* The coder and the wire frame as a program: an example of a client in C, and what
 * the tests run under sanitizers. Beside rans.c it needs only the C99 library.
 *
 *   cc -std=c99 -O2 coder.c ../../codec/rans.c -o coder
 *   coder encode TABLES < symbols > stream      int32 symbols, little-endian hosts
 *   coder decode TABLES COUNT < stream > symbols
 *   coder check  TABLES COUNT < frames          one letter a frame, see below
 *
 * TABLES: int32 rows, int32 stride, uint32 cdf[rows][stride], int32 length[rows],
 * int32 offset[rows] (docs/bundle.md names the same arrays). `frames` are uint32
 * sizes, each followed by that many bytes. The letters: '.' decoded, 'f' no frame,
 * 'c' a corrupt stream. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { /* as in rans.c */
    const uint32_t *cdf;
    const int32_t *length, *offset;
    uint16_t *index;
    int32_t rows, stride;
} sc_tables;

int32_t sc_rans_prepare(const sc_tables *t);
int64_t sc_rans_encode(const sc_tables *t, const int32_t *symbols, const uint16_t *rows,
                       size_t count, uint8_t *out, size_t capacity);
int32_t sc_rans_decode(const sc_tables *t, const uint8_t *data, size_t size,
                       const uint16_t *rows, size_t count, int32_t *out);

#define BUCKETS 1024
#define MAX_RANK 8
#define LIMIT (1u << 26) /* of one input, in bytes */

static uint32_t little(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t crc32(const uint8_t *p, size_t size) {
    uint32_t crc = 0xffffffffu;
    while (size--) {
        crc ^= *p++;
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* The payload of the one whole frame that data is, or NULL. */
static const uint8_t *unframe(const uint8_t *data, size_t size, size_t *payload) {
    if (size < 17 || memcmp(data, "SCJX", 4) || data[4] != 1) return NULL;
    size_t start = 9 + 4 * (size_t)data[8] + 4;
    if (data[8] > MAX_RANK || size < start + 4) return NULL;
    *payload = little(data + start - 4);
    if (*payload != size - start - 4) return NULL;
    return crc32(data, size - 4) == little(data + size - 4) ? data + start : NULL;
}

static void fail(const char *line) {
    fprintf(stderr, "error: %s\n", line);
    exit(2);
}

static void *room(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) fail("out of memory");
    return p;
}

/* All of a file, at most LIMIT bytes. */
static uint8_t *slurp(FILE *file, size_t *size) {
    size_t space = 1 << 16;
    uint8_t *data = room(space);
    *size = 0;
    for (;;) {
        size_t got = fread(data + *size, 1, space - *size, file);
        if (!got) return data;
        *size += got;
        if (*size < space) continue;
        if (space >= LIMIT || !(data = realloc(data, space *= 2))) fail("too large");
    }
}

/* Tables of a file. */
static sc_tables load(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("the tables cannot be opened");
    size_t size;
    uint8_t *data = slurp(file, &size);
    fclose(file);
    sc_tables t;
    if (size < 8) fail("the tables are cut short");
    memcpy(&t.rows, data, 4);
    memcpy(&t.stride, data + 4, 4);
    if (t.rows < 1 || t.rows > 65536 || t.stride < 2 || t.stride > 65538)
        fail("the tables have a bad shape");
    size_t cells = (size_t)t.rows * (size_t)t.stride;
    if (size != 8 + 4 * cells + 8 * (size_t)t.rows) fail("the tables are of another size");
    t.cdf = (const uint32_t *)(const void *)(data + 8);
    t.length = (const int32_t *)(const void *)(data + 8 + 4 * cells);
    t.offset = t.length + t.rows;
    t.index = room((size_t)t.rows * BUCKETS * sizeof *t.index);
    if (sc_rans_prepare(&t)) fail("the tables break their invariants");
    return t;
}

static void check(const sc_tables *t, const uint8_t *data, size_t size, size_t count) {
    int32_t *symbols = room(4 * count);
    for (size_t at = 0; at < size;) {
        if (size - at < 4 || little(data + at) > size - at - 4) fail("frames cut short");
        size_t length = little(data + at), payload = 0;
        const uint8_t *found = unframe(data + at + 4, length, &payload);
        int bad = found && sc_rans_decode(t, found, payload, NULL, count, symbols);
        putchar(!found ? 'f' : bad ? 'c' : '.');
        at += 4 + length;
    }
    free(symbols);
}

int main(int argc, char **argv) {
    if (argc < 3) fail("coder encode|decode|check TABLES [COUNT]");
    static sc_tables t; /* what it points to lives as long as the program */
    t = load(argv[2]);
    size_t size, count = argc > 3 ? (size_t)strtoul(argv[3], NULL, 10) : 0;
    uint8_t *data = slurp(stdin, &size);
    if (count > LIMIT) fail("COUNT is too large");
    if (!strcmp(argv[1], "encode")) {
        size_t space = 16 * size + 16; /* an escape takes 12 fields of 4 bits at most */
        uint8_t *out = room(space);
        int64_t wrote =
            sc_rans_encode(&t, (const int32_t *)(void *)data, NULL, size / 4, out, space);
        if (wrote < 0) fail("the symbols do not fit the tables' rows");
        fwrite(out + space - (size_t)wrote, 1, (size_t)wrote, stdout);
        free(out);
    } else if (!strcmp(argv[1], "decode")) {
        int32_t *symbols = room(4 * count);
        if (sc_rans_decode(&t, data, size, NULL, count, symbols)) fail("corrupt stream");
        fwrite(symbols, 4, count, stdout);
        free(symbols);
    } else if (!strcmp(argv[1], "check")) {
        check(&t, data, size, count);
    } else {
        fail("coder encode|decode|check TABLES [COUNT]");
    }
    free(data);
    return 0;
}
