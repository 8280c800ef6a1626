/* xchgd: the server as a program; pool/daemon does everything. */
#include "pool/daemon.h"

#include <stddef.h>

int main(int argc, char **argv) { return daemon_main(NULL, argc, argv); }
