/*
 * fuzz_options: a command line of xchg-bench is accepted, or refused with one line.  Accepted
 * options are within their limits, and can be written to a report and read back.
 *
 * Names are not resolved: the linker redirects getaddrinfo to this file (tests.mk), which answers
 * with an address of this machine.
 *
 * Input: the words, separated by 0 bytes.
 */
#include "tests/fuzz/fuzz.h"

#include "json_read.h"
#include "options.h"
#include "report_options.h"

#include <netdb.h>
#include <netinet/in.h>

#define WORDS_MAX 40

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **answers);
void __wrap_freeaddrinfo(struct addrinfo *answers);

int __wrap_getaddrinfo(const char *host, const char *service, const struct addrinfo *hints,
                       struct addrinfo **answers) {
  static struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  static struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr = {0x0100007f}};
  static struct addrinfo answer;
  (void)service, (void)hints;
  if (strlen(host) % 3 == 0) {
    return EAI_NONAME;
  }
  bool is_v4 = strlen(host) % 3 == 1;
  answer = (struct addrinfo){.ai_family = is_v4 ? AF_INET : AF_INET6,
                             .ai_addr = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6};
  *answers = &answer;
  return 0;
}

void __wrap_freeaddrinfo(struct addrinfo *answers) { (void)answers; }

static void check_options(const struct options *o) {
  fuzz_holds(o->threads >= 1 && o->threads <= o->connections, "a connection for each thread");
  fuzz_holds(o->pipeline >= 1 && o->repeat >= 1, "at least one");
  fuzz_holds(o->duration_ns > 0 && o->timeout_ns > 0, "a time to run");
  fuzz_holds(o->rate >= 0 && o->rate <= 1e9, "a rate");
  fuzz_holds(o->steps <= BENCH_STEPS_MAX && o->slo_count <= BENCH_SLO_MAX &&
                 o->bind_count <= BENCH_BIND_MAX && o->pids_count <= BENCH_PIDS_MAX,
             "lists within their limits");
  fuzz_holds((o->rate > 0) + (o->ramp ? 1 : 0) + (o->steps > 0) + (o->search ? 1 : 0) <= 1,
             "one shape of load");
  fuzz_holds(o->address.addr.family != ADDR_NONE && !o->address.any, "a target");
}

static char *print(const struct options *options, size_t *size) {
  char *text = NULL;
  FILE *out = open_memstream(&text, size);
  fuzz_holds(out != NULL, "there is memory");
  struct json_writer writer = {.out = out};
  json_open(&writer, NULL, '{');
  report_options_write(&writer, options);
  json_close(&writer, '}');
  fclose(out);
  return text;
}

/* Write ${options} as in a report, and read them back. */
static void try_report(const struct options *options) {
  static struct options again;
  struct json_document document;
  struct json_fault fault;
  size_t size, size_again;
  char *text = print(options, &size);
  fuzz_holds(json_parse(&document, text, size, &fault) == 0, "the options are JSON");
  fuzz_holds(report_options_read(&again, json_member(document.root, "options")) == NULL,
             "written options can be read");
  char *text_again = print(&again, &size_again);
  fuzz_holds(strcmp(text, text_again) == 0, "the options come back");
  config_fini(&again.exchange);
  json_document_fini(&document);
  free(text);
  free(text_again);
}

/* Split ${text} of ${size} bytes at its 0 bytes. */
static void cut_words(char *text, size_t size, char *argv[WORDS_MAX + 2]) {
  static char program[] = "xchg-bench";
  size_t count = 0;
  argv[count++] = program;
  for (char *end = text + size; text < end && count <= WORDS_MAX; text += strlen(text) + 1) {
    argv[count++] = text;
  }
  argv[count] = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct options options;
  char *argv[WORDS_MAX + 2], *written = NULL, *fault = NULL;
  size_t written_size, fault_size;
  char *text = fuzz_text(data, size);
  cut_words(text, size, argv);
  FILE *out = open_memstream(&written, &written_size);
  FILE *errors = open_memstream(&fault, &fault_size);
  fuzz_holds(out != NULL && errors != NULL, "there is memory");
  enum options_outcome outcome = options_parse(&options, argv, out, errors);
  fclose(out);
  fclose(errors);
  fuzz_holds((outcome == OPTIONS_FAULT) == (fault_size > 0),
             "a fault is reported, and nothing else");
  fuzz_holds((outcome == OPTIONS_DONE) == (written_size > 0), "help was asked for");
  if (outcome == OPTIONS_FAULT) {
    fuzz_holds(strncmp(fault, "xchg-bench", 10) == 0, "a fault names the program");
    fuzz_holds(strchr(fault, '\n') == fault + fault_size - 1, "a fault is one line");
  } else if (outcome == OPTIONS_RUN) {
    check_options(&options);
    try_report(&options);
    options_fini(&options);
  }
  free(written);
  free(fault);
  free(text);
  return 0;
}
