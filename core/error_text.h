/*
 * error_text: the text and the name of an errno, the same in every locale and with every libc.
 *
 * strerror(3) depends on the locale of the program.  A log line must not.
 */
#ifndef CORE_ERROR_TEXT_H
#define CORE_ERROR_TEXT_H

#define ERROR_TEXT_MAX 32 /* "Unknown error -2147483648" and its 0 */

/**
 * error_text(error, text):
 * Describe the errno ${error}, as glibc does in the C locale.
 * Return: a constant, or ${text} with the number if the errno is unknown.
 */
const char *error_text(int error, char text[ERROR_TEXT_MAX]);

/** The name of the errno ${error}, such as "EAGAIN", or NULL if it is unknown. */
const char *error_name(int error);

#endif
