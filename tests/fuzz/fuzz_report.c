/*
 * fuzz_report: a report that can be read is written and read again, with the same text as result.
 * A report that is refused gives one line.
 *
 * Input: the text of the report.
 */
#include "tests/fuzz/fuzz.h"

#include "report.h"
#include "report_read.h"

#include <sys/mman.h>
#include <unistd.h>

#define PATH_MAX_BYTES 32

/* Fill the one file of this process with ${size} bytes. Return: its path. */
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
  char *fault = NULL;
  size_t fault_size;
  FILE *errors = open_memstream(&fault, &fault_size);
  fuzz_holds(errors != NULL, "there is memory");
  int result = report_read(report, file_with(text, size), errors);
  fclose(errors);
  if (result == 0) {
    fuzz_holds(fault_size == 0, "a valid report gives no fault");
  } else {
    fuzz_holds(strncmp(fault, "xchg-bench: ", 12) == 0, "a fault names the program");
    fuzz_holds(strchr(fault, '\n') == fault + fault_size - 1, "a fault is one line");
  }
  free(fault);
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
