/*
 * json_text: what the reader and the writer of JSON both must know of text. Internal to json.
 */
#ifndef BENCH_JSON_TEXT_H
#define BENCH_JSON_TEXT_H

#include "core/base.h"

/**
 * Bytes of the UTF-8 character at ${text}, which ends with a 0; 0 where it is none (overlong, a
 * surrogate, over U+10FFFF, cut).
 */
size_t json_utf8_size(const char *text);

/** The locale's decimal point, as printf and strtod use it. */
const char *json_decimal_point(void);

#endif
