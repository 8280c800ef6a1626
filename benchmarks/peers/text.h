/*
 * text: a command line's way to say any bytes.
 */
#ifndef PEERS_TEXT_H
#define PEERS_TEXT_H

#include <stddef.h>

/**
 * text_unescape(text, size):
 * The bytes that ${text} stands for, \r \n \t \0 \\ \xNN resolved, and their number in ${*size}.
 * Return: NULL where an escape is unknown or memory is missing.
 * Own: the caller frees it.
 */
char *text_unescape(const char *text, size_t *size);

#endif
