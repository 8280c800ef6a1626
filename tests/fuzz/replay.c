/*
 * replay: the main of a fuzz target in builds without libFuzzer.
 *
 *   fuzz_x [FILE...]    tries each FILE; without one, the corpus tests/fuzz/corpus/x (from the top
 *                       of the tree) and then FUZZ_RUNS mutations of its files
 *
 * FUZZ_SEED is the seed of the first mutation; the default comes from the clock.  A mutation
 * follows from its number alone, so that FUZZ_SEED=n FUZZ_RUNS=1 repeats one.  A child process
 * tries the inputs.  If it ends badly, the parent reports the input and writes it to a file.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUNS 20000
#define FILES_MAX 256
#define INPUT_MAX ((size_t)16 * 1024)
#define CHANGES_MAX 6
#define PATH_SIZE 512

struct file {
  char path[PATH_SIZE];
  uint8_t *bytes; /* owns */
  size_t size;
};

struct replay {
  const char *target; /* the x of fuzz_x */
  struct file files[FILES_MAX];
  size_t files_count;
  uint64_t seed, runs;
  uint64_t *tried; /* inputs begun; shared with the child */
};

static uint64_t draw(uint64_t *state) { /* splitmix64 (Steele, Lea, Flood, 2014) */
  uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
  z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
  z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
  return z ^ z >> 31;
}

/* A number below ${end}; 0 if ${end} is 0. */
static size_t draw_below(uint64_t *state, size_t end) {
  return end == 0 ? 0 : (size_t)(draw(state) % end);
}

static void add_file(struct replay *replay, const char *path) {
  struct file *file = &replay->files[replay->files_count];
  fuzz_holds(replay->files_count < FILES_MAX, "the corpus is small");
  snprintf(file->path, sizeof(file->path), "%s", path);
  FILE *stream = fopen(path, "rb");
  if (stream == NULL) {
    perror(path);
    exit(1);
  }
  file->bytes = malloc(INPUT_MAX);
  fuzz_holds(file->bytes != NULL, "memory is available");
  file->size = fread(file->bytes, 1, INPUT_MAX, stream);
  fclose(stream);
  replay->files_count++;
}

static int by_path(const void *a, const void *b) {
  return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static void add_folder(struct replay *replay, const char *folder) {
  char path[PATH_SIZE + sizeof(((struct dirent *)0)->d_name)];
  DIR *dir = opendir(folder);
  if (dir == NULL) {
    perror(folder);
    exit(1);
  }
  for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
    if (entry->d_name[0] != '.') {
      snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
      add_file(replay, path);
    }
  }
  closedir(dir);
  qsort(replay->files, replay->files_count, sizeof(replay->files[0]), by_path);
}

/* Change the ${size} bytes of ${bytes} once. Return: the new size. */
static size_t change(struct replay *replay, uint64_t *state, uint8_t *bytes, size_t size) {
  static const uint8_t telling[] = {0, 1, '\n', '\r', ' ', '"', '\\', ',', 0x7f, 0x80, 0xfe, 0xff};
  size_t at = draw_below(state, size + 1);
  size_t run = min_u64(draw_below(state, 16) + 1, size - at);
  switch (draw_below(state, 6)) {
    case 0:
      if (at < size) {
        bytes[at] ^= (uint8_t)(1u << draw_below(state, 8));
      }
      return size;
    case 1:
      if (at < size) {
        bytes[at] = telling[draw_below(state, sizeof(telling))];
      }
      return size;
    case 2: /* remove some bytes */
      memmove(bytes + at, bytes + at + run, size - at - run);
      return size - run;
    case 3: /* repeat some bytes */
      if (size + run > INPUT_MAX) {
        return size;
      }
      memmove(bytes + at + run, bytes + at, size - at);
      return size + run;
    case 4:
      if (at < size) {
        bytes[at] = (uint8_t)draw(state);
      }
      return size;
    default: { /* continue as another file does */
      const struct file *other = &replay->files[draw_below(state, replay->files_count)];
      size_t from = draw_below(state, other->size + 1);
      size_t count = min_u64(other->size - from, INPUT_MAX - at);
      memcpy(bytes + at, other->bytes + from, count);
      return at + count;
    }
  }
}

/* Make the mutation of ${seed} in ${bytes}. Return: its size. */
static size_t mutate(struct replay *replay, uint64_t seed, uint8_t bytes[INPUT_MAX]) {
  uint64_t state = seed;
  const struct file *file = &replay->files[draw_below(&state, replay->files_count)];
  size_t size = file->size;
  memcpy(bytes, file->bytes, size);
  for (size_t changes = draw_below(&state, CHANGES_MAX) + 1; changes > 0; changes--) {
    size = change(replay, &state, bytes, size);
  }
  return size;
}

/* Input number ${i}: the files, then the mutations. To be freed; has exactly its size. */
static uint8_t *input_of(struct replay *replay, uint64_t i, size_t *size) {
  static uint8_t mutation[INPUT_MAX];
  const uint8_t *bytes = mutation;
  if (i < replay->files_count) {
    bytes = replay->files[i].bytes;
    *size = replay->files[i].size;
  } else {
    *size = mutate(replay, replay->seed + (i - replay->files_count), mutation);
  }
  uint8_t *copy = malloc(*size + (*size == 0));
  fuzz_holds(copy != NULL, "memory is available");
  memcpy(copy, bytes, *size);
  return copy;
}

static void try_all(struct replay *replay) {
  for (uint64_t i = 0; i < replay->files_count + replay->runs; i++) {
    size_t size;
    uint8_t *input = input_of(replay, i, &size);
    *replay->tried = i + 1;
    LLVMFuzzerTestOneInput(input, size);
    free(input);
  }
}

/* Report the input that ended the child, and keep it. */
static void tell(struct replay *replay, const char *program) {
  uint64_t i = *replay->tried - 1;
  if (*replay->tried == 0) {
    fprintf(stderr, "%s: ended before its first input\n", program);
  } else if (i < replay->files_count) {
    fprintf(stderr, "%s: failed on the file; again: %s %s\n", program, program,
            replay->files[i].path);
  } else {
    char path[PATH_SIZE];
    size_t size;
    uint8_t *input = input_of(replay, i, &size);
    snprintf(path, sizeof(path), "%s.failed", program);
    FILE *stream = fopen(path, "wb");
    if (stream != NULL) {
      fwrite(input, 1, size, stream);
      fclose(stream);
    }
    free(input);
    fprintf(stderr, "%s: failed on mutation %" PRIu64 ", kept; again: %s %s\n", program,
            replay->seed + (i - replay->files_count), program, path);
  }
}

static uint64_t number_from(const char *variable, uint64_t otherwise) {
  const char *text = getenv(variable);
  return text == NULL || *text == 0 ? otherwise : strtoull(text, NULL, 10);
}

/* Slow builds (XCHGD_SLOW: valgrind and sanitizers) run fewer mutations. */
static uint64_t runs_by_default(void) { return RUNS / max_u64(number_from("XCHGD_SLOW", 1), 1); }

int main(int argc, char **argv) {
  static struct replay replay;
  char folder[PATH_SIZE / 2];
  const char *name = strstr(argv[0], "fuzz_");
  for (const char *next = name; next != NULL; next = strstr(next + 1, "fuzz_")) {
    name = next;
  }
  fuzz_holds(name != NULL, "a target is called fuzz_x");
  replay.target = name + strlen("fuzz_");
  for (int i = 1; i < argc; i++) {
    add_file(&replay, argv[i]);
  }
  if (argc == 1) {
    snprintf(folder, sizeof(folder), "tests/fuzz/corpus/%s", replay.target);
    add_folder(&replay, folder);
    replay.seed = number_from("FUZZ_SEED", (uint64_t)time(NULL) * 1000000);
    replay.runs = number_from("FUZZ_RUNS", runs_by_default());
  }
  fuzz_holds(replay.files_count > 0, "there is at least one file");
  replay.tried =
      mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  fuzz_holds(replay.tried != MAP_FAILED, "memory is available");
  printf("%s: %zu files, %" PRIu64 " mutations from FUZZ_SEED=%" PRIu64 "\n", replay.target,
         replay.files_count, replay.runs, replay.seed);
  fflush(stdout);
  int status = 0;
  pid_t child = fork();
  if (child != 0) {
    if (child == -1 || waitpid(child, &status, 0) == -1 || status != 0) {
      tell(&replay, argv[0]);
      status = 1;
    }
  } else {
    try_all(&replay);
  }
  for (size_t i = 0; i < replay.files_count; i++) {
    free(replay.files[i].bytes);
  }
  return status;
}
