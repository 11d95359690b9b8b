/* See coder.h. */
#include "coder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int32_t sc_rans_prepare(const sc_tables *t);
int64_t sc_rans_encode(const sc_tables *t, const int32_t *symbols, const uint16_t *rows,
                       size_t count, uint8_t *out, size_t capacity);
int32_t sc_rans_decode(const sc_tables *t, const uint8_t *data, size_t size,
                       const uint16_t *rows, size_t count, int32_t *out);

#define BUCKETS 1024     /* of the index, as in rans.c */
#define LIMIT (1u << 26) /* of a file, in bytes, and of a latent, in symbols */
#define HEAD 9           /* bytes of a frame before its shape */

static uint32_t little(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint8_t *put(uint8_t *p, uint32_t value) {
    for (int k = 0; k < 4; k++) p[k] = (uint8_t)(value >> 8 * k);
    return p + 4;
}

static uint32_t crc32(const uint8_t *p, size_t size) {
    uint32_t crc = 0xffffffffu;
    while (size--) {
        crc ^= *p++;
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* --- codec.npz: NumPy arrays in an uncompressed zip ------------------------------- */

typedef struct {
    const uint8_t *data; /* elements of `width` bytes, little endian */
    size_t count, width;
    int32_t rank;
    uint32_t shape[2];
} array;

/* The bytes of a file's entry, or NULL. Only what sc_jax writes: stored, sizes ahead. */
static const uint8_t *entry(const uint8_t *zip, size_t size, const char *name,
                            size_t *found) {
    size_t expected = strlen(name);
    for (size_t at = 0; size - at >= 30 && !memcmp(zip + at, "PK\3\4", 4);) {
        const uint8_t *head = zip + at;
        size_t length = little(head + 18), title = head[26] | (size_t)head[27] << 8;
        size_t extra = head[28] | (size_t)head[29] << 8, left = size - at - 30;
        if (head[6] & 8 || head[8] || head[9]) return NULL; /* sizes behind, packed */
        if (title + extra > left || length > left - title - extra) return NULL;
        *found = length;
        if (title == expected && !memcmp(head + 30, name, title))
            return head + 30 + title + extra;
        at += 30 + title + extra + length;
    }
    return NULL;
}

/* A .npy of format 1.0 with elements of type `kind` ("<u4") and rank 0 to 2; 0 or -1. */
static int parse(const uint8_t *data, size_t size, const char *kind, array *out) {
    char text[512], quoted[16];
    if (!data || size < 10 || memcmp(data, "\x93NUMPY\1\0", 8)) return -1;
    size_t length = data[8] | (size_t)data[9] << 8;
    if (length >= sizeof text || length > size - 10) return -1;
    memcpy(text, data + 10, length);
    text[length] = 0;
    snprintf(quoted, sizeof quoted, "'%s'", kind);
    const char *p = strstr(text, "'shape': (");
    if (!strstr(text, quoted) || strstr(text, "'fortran_order': True") || !p) return -1;
    p += 10;
    out->rank = 0;
    out->count = 1;
    out->width = (size_t)(kind[2] - '0');
    while (*p != ')') {
        char *end;
        unsigned long axis = strtoul(p, &end, 10);
        if (end == p || out->rank == 2 || axis > LIMIT) return -1;
        out->shape[out->rank++] = (uint32_t)axis;
        if (axis && out->count > LIMIT / axis) return -1;
        out->count *= axis;
        for (p = end; *p == ',' || *p == ' '; p++) {
        }
    }
    out->data = data + 10 + length;
    return out->count * out->width == size - 10 - length ? 0 : -1;
}

static int read(const uint8_t *zip, size_t size, const char *name, const char *kind,
                array *out) {
    size_t length = 0;
    const uint8_t *data = entry(zip, size, name, &length);
    return parse(data, length, kind, out);
}

/* All of a file, at most LIMIT bytes; NULL. */
static uint8_t *slurp(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    uint8_t *data = malloc(LIMIT);
    *size = data ? fread(data, 1, LIMIT, file) : 0;
    fclose(file);
    return data;
}

static const char *build(const uint8_t *zip, size_t size, sc_codec *codec) {
    array kind, shape, cdf, length, offset;
    if (read(zip, size, "kind.npy", "|u1", &kind)) return "no codec.npz of a bundle";
    if (kind.count != 10 || memcmp(kind.data, "factorized", 10))
        return "a codec of another kind than factorized";
    if (read(zip, size, "shape.npy", "<i4", &shape) || shape.rank != 1 ||
        read(zip, size, "cdf.npy", "<u4", &cdf) || cdf.rank != 2 ||
        read(zip, size, "length.npy", "<i4", &length) || length.rank != 1 ||
        read(zip, size, "offset.npy", "<i4", &offset) || offset.rank != 1)
        return "the arrays of the codec are missing or damaged";
    size_t rows = cdf.shape[0], stride = cdf.shape[1];
    if (shape.count < 1 || shape.count > SC_MAX_RANK || rows < 1 || rows > 65536 ||
        stride < 2 || stride > 65538 || length.count != rows || offset.count != rows)
        return "the arrays of the codec do not fit each other";
    codec->rank = (int32_t)shape.count;
    codec->count = 1;
    for (size_t k = 0; k < shape.count; k++) {
        uint32_t axis = codec->shape[k] = little(shape.data + 4 * k);
        if (!axis || codec->count > LIMIT / axis) return "the latent has a bad shape";
        codec->count *= axis;
    }
    if (codec->shape[codec->rank - 1] != rows) return "not one row of tables a channel";
    /* One block, widest elements first, so that each array is aligned. */
    uint32_t *block = malloc(4 * (cdf.count + 2 * rows) + rows * BUCKETS * 2);
    if (!block) return "out of memory";
    codec->memory = block;
    const array *parts[] = {&cdf, &length, &offset};
    uint32_t *p = block;
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < parts[k]->count; i++) *p++ = little(parts[k]->data + 4 * i);
    codec->tables.cdf = block;
    codec->tables.length = (const int32_t *)(block + cdf.count);
    codec->tables.offset = codec->tables.length + rows;
    codec->tables.index = (uint16_t *)p;
    codec->tables.rows = (int32_t)rows;
    codec->tables.stride = (int32_t)stride;
    if (!sc_rans_prepare(&codec->tables)) return NULL;
    sc_codec_free(codec);
    return "the tables break their invariants";
}

const char *sc_codec_load(const char *path, sc_codec *codec) {
    size_t size = 0;
    memset(codec, 0, sizeof *codec);
    uint8_t *zip = slurp(path, &size);
    if (!zip) return "the codec cannot be opened";
    const char *error = build(zip, size, codec);
    free(zip);
    return error;
}

void sc_codec_free(sc_codec *codec) {
    free(codec->memory);
    codec->memory = NULL;
}

/* --- symbols, payload, frame ------------------------------------------------------ */

void sc_channels_first(const sc_codec *codec, const int32_t *symbols, int32_t *out) {
    size_t channels = codec->shape[codec->rank - 1], places = codec->count / channels;
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < places; i++) *out++ = symbols[i * channels + c];
}

/* An escape takes 56 bits at most, and the state 8 bytes. */
size_t sc_payload_room(const sc_codec *codec) { return 8 * codec->count + 32; }

size_t sc_frame_room(const sc_codec *codec) {
    return HEAD + 4 * SC_MAX_RANK + 8 + sc_payload_room(codec);
}

int64_t sc_encode(const sc_codec *codec, const int32_t *symbols, uint8_t *out,
                  size_t room) {
    int64_t size =
        sc_rans_encode(&codec->tables, symbols, NULL, codec->count, out, room);
    /* The coder works from the last symbol to the first and fills `out` from its end. */
    if (size > 0) memmove(out, out + room - (size_t)size, (size_t)size);
    return size;
}

int32_t sc_decode(const sc_codec *codec, const uint8_t *payload, size_t size,
                  int32_t *symbols) {
    return sc_rans_decode(&codec->tables, payload, size, NULL, codec->count, symbols);
}

int64_t sc_frame_pack(const sc_codec *codec, uint16_t split, const uint8_t *payload,
                      size_t size, uint8_t *out, size_t room) {
    size_t total = HEAD + 4 * (size_t)codec->rank + 8 + size;
    if (size > LIMIT || total > room) return SC_SPACE;
    const uint8_t head[HEAD] = {'S', 'C', 'J', 'X', 1, SC_FACTORIZED, split & 255,
                                (uint8_t)(split >> 8), (uint8_t)codec->rank};
    memcpy(out, head, HEAD);
    uint8_t *p = out + HEAD;
    for (int32_t k = 0; k < codec->rank; k++) p = put(p, codec->shape[k]);
    p = put(p, (uint32_t)size);
    memcpy(p, payload, size);
    put(p + size, crc32(out, total - 4));
    return (int64_t)total;
}

int32_t sc_frame_unpack(const uint8_t *data, size_t size, sc_frame *frame) {
    if (size < HEAD + 8 || memcmp(data, "SCJX", 4) || data[4] != 1) return SC_FRAME;
    size_t start = HEAD + 4 * (size_t)data[8] + 4;
    if (data[8] > SC_MAX_RANK || size < start + 4) return SC_FRAME;
    frame->size = little(data + start - 4);
    /* Lengths first: a hostile one must not become an offset. */
    if (frame->size != size - start - 4) return SC_FRAME;
    if (crc32(data, size - 4) != little(data + size - 4)) return SC_FRAME;
    frame->codec = data[5];
    frame->split = (uint16_t)(data[6] | data[7] << 8);
    frame->rank = data[8];
    for (int32_t k = 0; k < frame->rank; k++)
        frame->shape[k] = little(data + HEAD + 4 * (size_t)k);
    frame->payload = data + start;
    return 0;
}
