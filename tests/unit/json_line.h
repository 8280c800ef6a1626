/*
 * json_line: a checker of the logger's JSON: one flat object of strings and integers, then a line
 * feed.
 */
#ifndef TESTS_UNIT_JSON_LINE_H
#define TESTS_UNIT_JSON_LINE_H

/** Check the line at ${at}, which ends with a 0. Return: what follows it, or NULL. */
const char *json_line(const char *at);

#endif
