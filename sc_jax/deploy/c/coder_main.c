/* The coder as a program: what the tests run under sanitizers.
 *
 *   cc -std=c99 -O2 coder_main.c coder.c ../../codec/rans.c -o coder
 *   coder frame   CODEC < symbols > frame     int32 [h, w, channels], little-endian hosts
 *   coder unframe CODEC < frame > symbols
 *   coder check   CODEC < frames              one letter a frame, see below
 *
 * CODEC: codec.npz of a bundle. `frames` are uint32 sizes, each followed by that many
 * bytes. The letters: '.' decoded, 'f' no frame, 'c' a corrupt stream. */
#include "coder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT (1u << 26) /* of the input, in bytes */

static void fail(const char *line) {
    fprintf(stderr, "error: %s\n", line);
    exit(2);
}

static void *room(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) fail("out of memory");
    return p;
}

static uint8_t *slurp(size_t *size) {
    size_t space = 1 << 16;
    uint8_t *data = room(space);
    *size = 0;
    for (;;) {
        size_t got = fread(data + *size, 1, space - *size, stdin);
        if (!got) return data;
        *size += got;
        if (*size < space) continue;
        if (space >= LIMIT || !(data = realloc(data, space *= 2))) fail("too large");
    }
}

static void pack(const sc_codec *codec, const uint8_t *data, size_t size) {
    if (size != 4 * codec->count) fail("not the symbols of one latent");
    size_t space = sc_payload_room(codec), more = sc_frame_room(codec);
    int32_t *symbols = room(size);
    uint8_t *payload = room(space), *out = room(more);
    sc_channels_first(codec, (const int32_t *)(const void *)data, symbols);
    int64_t wrote = sc_encode(codec, symbols, payload, space);
    if (wrote >= 0) wrote = sc_frame_pack(codec, 0, payload, (size_t)wrote, out, more);
    if (wrote < 0) fail("the symbols do not fit the codec");
    fwrite(out, 1, (size_t)wrote, stdout);
    free(symbols);
    free(payload);
    free(out);
}

static char check(const sc_codec *codec, const uint8_t *data, size_t size,
                  int32_t *symbols) {
    sc_frame frame;
    if (sc_frame_unpack(data, size, &frame)) return 'f';
    return sc_decode(codec, frame.payload, frame.size, symbols) ? 'c' : '.';
}

static void check_all(const sc_codec *codec, const uint8_t *data, size_t size,
                      int32_t *symbols) {
    for (size_t at = 0; at < size;) {
        uint32_t length;
        if (size - at < 4) fail("frames cut short");
        memcpy(&length, data + at, 4);
        if (length > size - at - 4) fail("frames cut short");
        putchar(check(codec, data + at + 4, length, symbols));
        at += 4 + (size_t)length;
    }
}

int main(int argc, char **argv) {
    if (argc != 3) fail("coder frame|unframe|check CODEC");
    sc_codec codec;
    const char *error = sc_codec_load(argv[2], &codec);
    if (error) fail(error);
    size_t size;
    uint8_t *data = slurp(&size);
    int32_t *symbols = room(4 * codec.count);
    if (!strcmp(argv[1], "frame")) {
        pack(&codec, data, size);
    } else if (!strcmp(argv[1], "unframe")) {
        char letter = check(&codec, data, size, symbols);
        if (letter == 'f') fail("no frame");
        if (letter == 'c') fail("corrupt stream");
        fwrite(symbols, 4, codec.count, stdout);
    } else if (!strcmp(argv[1], "check")) {
        check_all(&codec, data, size, symbols);
    } else {
        fail("coder frame|unframe|check CODEC");
    }
    free(symbols);
    free(data);
    sc_codec_free(&codec);
    return 0;
}
