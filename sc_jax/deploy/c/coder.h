/* The coder and the wire frame of sc_jax for clients in C and C++.
 *
 * With coder.c and ../../codec/rans.c this is all that a phone or a board compiles;
 * beside the C99 library it needs nothing. Formats: docs/bundle.md, docs/bitstream.md.
 * Whatever a file, a stream or a frame holds, nothing reads or writes out of bounds.
 *
 *   sc_codec codec;
 *   const char *error = sc_codec_load("bundle/codec.npz", &codec);   NULL: none
 *   sc_channels_first(&codec, outputs_of_the_head, symbols);
 *   size = sc_encode(&codec, symbols, payload, room);
 *   size = sc_frame_pack(&codec, split, payload, size, frame, more_room);
 */
#ifndef SC_JAX_CODER_H
#define SC_JAX_CODER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SC_CORRUPT (-1) /* not a stream that the encoder writes for these tables */
#define SC_SPACE (-2)   /* the output buffer is too small */
#define SC_FRAME (-5)   /* not one whole frame */
#define SC_MAX_RANK 8
#define SC_FACTORIZED 4 /* the wire id of the only codec that is here */

typedef struct { /* as in rans.c; sc_rans_prepare has checked it */
    const uint32_t *cdf;
    const int32_t *length, *offset;
    uint16_t *index;
    int32_t rows, stride;
} sc_tables;

typedef struct {
    sc_tables tables; /* row r codes the symbols of channel r */
    int32_t rank;
    uint32_t shape[SC_MAX_RANK]; /* of one latent, [h, w, channels] */
    size_t count;                /* symbols of one latent */
    void *memory;                /* of the arrays: sc_codec_free */
} sc_codec;

typedef struct {
    uint8_t codec;
    uint16_t split;
    int32_t rank;
    uint32_t shape[SC_MAX_RANK];
    const uint8_t *payload; /* inside the bytes that were unpacked */
    size_t size;
} sc_frame;

/* Reads codec.npz of a bundle, kind `factorized`. NULL, or what is wrong in one line
 * that lives as long as the program; then nothing is to be freed. */
const char *sc_codec_load(const char *path, sc_codec *codec);
void sc_codec_free(sc_codec *codec);

/* The symbols of a head, [h, w, channels], in the order they are coded in. */
void sc_channels_first(const sc_codec *codec, const int32_t *symbols, int32_t *out);

/* Bytes that a payload or frame of this codec never exceeds. */
size_t sc_payload_room(const sc_codec *codec);
size_t sc_frame_room(const sc_codec *codec);

/* codec->count symbols, channels first -> the payload's size, or a negative SC_ code. */
int64_t sc_encode(const sc_codec *codec, const int32_t *symbols, uint8_t *out,
                  size_t room);
/* 0, or SC_CORRUPT. */
int32_t sc_decode(const sc_codec *codec, const uint8_t *payload, size_t size,
                  int32_t *symbols);

/* The frame's size, or SC_SPACE. split: the bundle's. */
int64_t sc_frame_pack(const sc_codec *codec, uint16_t split, const uint8_t *payload,
                      size_t size, uint8_t *out, size_t room);
/* 0 and `frame`, or SC_FRAME for bytes that are not one whole frame. */
int32_t sc_frame_unpack(const uint8_t *data, size_t size, sc_frame *frame);

#ifdef __cplusplus
}
#endif
#endif
