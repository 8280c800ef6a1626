/*
 * text: arbitrary bytes as command-line arguments.
 */
#ifndef PEERS_TEXT_H
#define PEERS_TEXT_H

#include <stddef.h>

/**
 * text_unescape(text, size):
 * The bytes of ${text} with the escapes \r \n \t \0 \\ \xNN resolved; their number in ${*size}.
 * Return: NULL if an escape is unknown or memory is exhausted.
 * Own: the caller frees it.
 */
char *text_unescape(const char *text, size_t *size);

#endif
