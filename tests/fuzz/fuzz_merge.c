/*
 * fuzz_merge: two different reports that can be merged make a report, which every writer writes and
 * report_read reads back.  Reports that cannot be merged or compared are refused with a reason.
 *
 * Input: the texts of the two reports with a 0 byte between them.
 */
#include "tests/fuzz/fuzz.h"

#include "compare.h"
#include "merge.h"
#include "report.h"

#include <sys/mman.h>
#include <unistd.h>

#define PATH_MAX_BYTES 32
#define REPORTS 2

/* A file of this process for each report and for the merged one. */
struct file {
  int fd; /* 0 = not opened yet */
  char path[PATH_MAX_BYTES];
};
static struct file files[REPORTS + 1];

/* Fill file ${index} with ${size} bytes. Return: its path. */
static const char *file_with(unsigned index, const void *text, size_t size) {
  struct file *file = &files[index];
  if (file->fd == 0) {
    file->fd = memfd_create("report", 0);
    snprintf(file->path, sizeof(file->path), "/proc/self/fd/%d", file->fd);
  }
  fuzz_holds(ftruncate(file->fd, 0) == 0 && pwrite(file->fd, text, size, 0) == (ssize_t)size,
             "a file");
  return file->path;
}

static FILE *open_text(char **text, size_t *size) {
  FILE *out = open_memstream(text, size);
  fuzz_holds(out != NULL, "there is memory");
  return out;
}

/* Read ${size} bytes as report ${index}. */
static int take(struct report *report, unsigned index, const void *text, size_t size) {
  char *fault = NULL;
  size_t fault_size;
  FILE *errors = open_text(&fault, &fault_size);
  const int result = report_read(report, file_with(index, text, size), errors);
  fclose(errors);
  free(fault);
  return result;
}

/* Every writer takes ${report}, and what report_json writes can be read. */
static void write_all(const struct report *report) {
  char *text = NULL;
  size_t size;
  FILE *out = open_text(&text, &size);
  for (uint32_t i = 0; i < report->runs_count; i++) {
    report_text(out, &report->options, report->runs[i]);
    report_csv(out, report->runs[i]);
    report_html(out, &report->options, report->runs[i]);
    hdr_write_hgrm(report->runs[i]->latency, report->runs[i]->unfinished_times[TIMES_LATENCY], out);
  }
  report_text_begin(out, &report->options);
  fclose(out);
  free(text);
  struct report again;
  out = open_text(&text, &size);
  report_json(out, &report->options, report->runs, report->runs_count);
  fclose(out);
  fuzz_holds(take(&again, REPORTS, text, size) == 0, "a merged report can be read");
  fuzz_holds(again.runs_count == report->runs_count, "no run is lost");
  free(text);
  report_fini(&again);
}

static void compare(void) {
  const char *const paths[] = {files[0].path, files[1].path};
  char *text = NULL;
  size_t size;
  FILE *out = open_text(&text, &size);
  (void)compare_files(paths, REPORTS, 5, out,
                      out); /* steps are refused, with their own exit code */
  fclose(out);
  fuzz_holds(size > 0, "a table or a reason");
  free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct report reports[REPORTS], merged;
  const uint8_t *second = size == 0 ? NULL : memchr(data, 0, size);
  if (second == NULL) {
    return 0;
  }
  const size_t first_size = (size_t)(second++ - data);
  if (take(&reports[0], 0, data, first_size) == -1) {
    return 0;
  }
  if (take(&reports[1], 1, second, size - first_size - 1) == 0) {
    const char *wrong = merge_reports(&merged, reports, REPORTS);
    fuzz_holds(wrong == NULL || wrong[0] != 0, "a refusal has a reason");
    if (wrong == NULL) {
      write_all(&merged);
      merge_fini(&merged);
    }
    compare();
    report_fini(&reports[1]);
  }
  report_fini(&reports[0]);
  return 0;
}
