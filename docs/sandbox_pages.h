/* sandbox_pages: the part of docs/SECURITY.md that comes from the table of system calls. */
#ifndef DOCS_SANDBOX_PAGES_H
#define DOCS_SANDBOX_PAGES_H

#include <stdio.h>

void sandbox_pages_markdown(FILE *out); /* what stands between the two markers */

#endif
