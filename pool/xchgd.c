/* xchgd: the server as a program; pool/daemon does everything. */
#include "pool/daemon.h"

#include <stddef.h>

/*
 * Read by jemalloc.  Where the machine gives huge pages to every program, 2 MiB would be resident
 * for a few small objects of each arena.
 */
extern const char *malloc_conf;
const char *malloc_conf = "thp:never";

int main(int argc, char **argv) { return daemon_main(NULL, argc, argv); }
