/*
 * locale_server: an echo server in a program that sets its locale from the environment.
 *
 * LOCALE_TEXTS is a folder with translations of libc's texts.  `locale_server probe` writes what
 * libc makes of the locale: its name, the case of I, a number, the text of an errno.
 */
#include "core/xchg.h"

#include <errno.h>
#include <libintl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void on_message(struct xchg_conn *conn, const struct xchg_message *message) {
  xchg_send(conn, message->data, message->size);
}

int main(int argc, char **argv) {
  static const struct xchg_handler echo = {.size = sizeof(echo), .on_message = on_message};
  if (setlocale(LC_ALL, "") == NULL) {
    fputs("there is no such locale\n", stderr);
    return 1;
  }
  const char *texts = getenv("LOCALE_TEXTS");
  if (texts != NULL && bindtextdomain("libc", texts) == NULL) {
    return 1;
  }
  if (argc == 2 && strcmp(argv[1], "probe") == 0) {
    printf("%s %s %.1f %s\n", setlocale(LC_ALL, NULL), strcasecmp("I", "i") == 0 ? "same" : "other",
           1.5, strerror(EADDRINUSE));
    return 0;
  }
  return xchg_main(&echo, argc, argv);
}
