/*
 * page: the page of the admin endpoint, three files of docs/page as constants.
 *
 * The Makefile makes page.c from these files.  They are text with a newline at the end and hold no
 * NUL; together they have at most PAGE_MAX bytes.
 */
#ifndef POOL_PAGE_H
#define POOL_PAGE_H

#include <stddef.h>

#define PAGE_MAX (40 * 1024)

/* The value of Content-Security-Policy for each of them: nothing but the server itself is asked. */
#define PAGE_SECURITY_POLICY                                                      \
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " \
  "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

extern const char page_html[]; /* /, text/html; charset=utf-8 */
extern const size_t page_html_size;
extern const char page_js[]; /* /page.js, text/javascript; charset=utf-8 */
extern const size_t page_js_size;
extern const char page_css[]; /* /page.css, text/css; charset=utf-8 */
extern const size_t page_css_size;

#endif
