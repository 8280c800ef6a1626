/*
 * fuzz_report: a report that is read can be written and read again, and is then the same text; one
 * that is refused gets one line.
 *
 * Input: the report's text.
 */
#include "tests/fuzz/fuzz.h"

#include "report.h"
#include "report_read.h"

#include <sys/mman.h>
#include <unistd.h>

#define PATH_MAX_BYTES 32

/* The one file of this process, filled with ${size} bytes; its path. */
static const char *file_with(const void *text, size_t size) {
  static int fd = -1;
  static char path[PATH_MAX_BYTES];
  if (fd == -1) {
    fd = memfd_create("report", 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  }
  fuzz_holds(ftruncate(fd, 0) == 0 && pwrite(fd, text, size, 0) == (ssize_t)size, "a file");
  return path;
}

/* Read ${size} bytes as a report. Return: 0, or -1 after one line. */
static int take(struct report *report, const void *text, size_t size) {
  char *said = NULL;
  size_t said_size;
  FILE *errors = open_memstream(&said, &said_size);
  fuzz_holds(errors != NULL, "there is memory");
  int result = report_read(report, file_with(text, size), errors);
  fclose(errors);
  if (result == 0) {
    fuzz_holds(said_size == 0, "nothing is said about a report that is right");
  } else {
    fuzz_holds(strncmp(said, "xchg-bench: ", 12) == 0, "a fault says who");
    fuzz_holds(strchr(said, '\n') == said + said_size - 1, "a fault is one line");
  }
  free(said);
  return result;
}

static char *print(const struct report *report, size_t *size) {
  char *text = NULL;
  FILE *out = open_memstream(&text, size);
  fuzz_holds(out != NULL, "there is memory");
  report_json(out, &report->options, report->runs, report->runs_count);
  fclose(out);
  return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct report report, again, third;
  if (take(&report, data, size) == -1) {
    return 0;
  }
  size_t first_size, second_size;
  char *first = print(&report, &first_size);
  fuzz_holds(take(&again, first, first_size) == 0, "what is written can be read");
  char *second = print(&again, &second_size);
  fuzz_holds(first_size == second_size && memcmp(first, second, first_size) == 0,
             "the report comes back");
  fuzz_holds(take(&third, second, second_size) == 0, "and once more");
  free(first);
  free(second);
  report_fini(&report);
  report_fini(&again);
  report_fini(&third);
  return 0;
}
