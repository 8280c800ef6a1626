/* upgrade_image: see upgrade_image.h. */
#include "pool/upgrade_image.h"

#include "core/sys.h"
#include "core/parse.h"
#include "core/env_vars.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void upgrade_program_find(struct upgrade_program *program, const char *inherited) {
  if (inherited != NULL) {
    snprintf(program->path, sizeof(program->path), "%s", inherited);
    return;
  }
  ssize_t size = readlink("/proc/self/exe", program->path, sizeof(program->path) - 1);
  program->path[size > 0 ? size : 0] = 0;
}

/* ---- texts ---- */

static void texts_free(struct upgrade_texts *texts) {
  free(texts->list);
  free(texts->bytes);
  *texts = (struct upgrade_texts){.list = NULL};
}

/*
 * List the ${size} bytes of ${texts}, each text with its 0, with room for one more.
 * Return: how many there are; or -1 (ENOMEM).
 */
static ssize_t texts_list(struct upgrade_texts *texts, size_t size) {
  size_t count = 0;
  for (size_t i = 0; i < size; i++) {
    count += texts->bytes[i] == 0;
  }
  texts->list = calloc(count + 2, sizeof(*texts->list));
  if (texts->list == NULL) {
    return -1;
  }
  for (size_t i = 0, at = 0; i < count; i++, at += strlen(texts->bytes + at) + 1) {
    texts->list[i] = texts->bytes + at;
  }
  return (ssize_t)count;
}

/* The arguments of this process, or only ${path} where they are unknown. Return: 0, or -1. */
static int find_arguments(struct upgrade_texts *texts, const char *path) {
  size_t size = 0;
  FILE *from = fopen("/proc/self/cmdline", "re");
  FILE *to = open_memstream(&texts->bytes, &size);
  for (int c; from != NULL && to != NULL && (c = fgetc(from)) != EOF;) {
    fputc(c, to);
  }
  if (from != NULL) {
    (void)fclose(from); /* it was only read */
  }
  if (to != NULL && ftell(to) == 0) {
    (void)fwrite(path, 1, strlen(path) + 1, to); /* fclose says so */
  }
  if (to == NULL || fclose(to) == EOF) {
    return -1;
  }
  return texts_list(texts, size) == -1 ? -1 : 0;
}

/* ---- the environment ---- */

static bool is_named(const char *entry, const char *name) {
  size_t size = strlen(name);
  return strncmp(entry, name, size) == 0 && entry[size] == '=';
}

/* Does the new program get ${entry} of this one's environment? */
static bool keeps(const struct upgrade_image_setup *setup, const char *entry) {
  if (is_named(entry, "WATCHDOG_PID") || is_named(entry, UPGRADE_CHANNEL_NAME) ||
      (setup->passed && is_named(entry, "LISTEN_PID"))) {
    return false;
  }
  return setup->request == NULL || strncmp(entry, "XCHG_", 5) != 0;
}

static void put_text(FILE *to, const char *text) {
  (void)fwrite(text, 1, strlen(text) + 1, to); /* fclose says so */
}

/* Return: 0, or -1. */
static int make_environment(struct upgrade_image *image, const struct upgrade_image_setup *setup) {
  size_t size = 0;
  FILE *to = open_memstream(&image->environment.bytes, &size);
  if (to == NULL) {
    return -1;
  }
  for (const char *const *entry = setup->environment; *entry != NULL; entry++) {
    if (keeps(setup, *entry)) {
      put_text(to, *entry);
    }
  }
  for (const char *const *entry = setup->request; entry != NULL && *entry != NULL; entry++) {
    put_text(to, *entry);
  }
  if (setup->passed) {
    fprintf(to, "LISTEN_PID=%d%c", (int)getpid(), 0);
  }
  if (fclose(to) == EOF) {
    return -1;
  }
  ssize_t count = texts_list(&image->environment, size);
  if (count == -1) {
    return -1;
  }
  image->environment.list[count] = image->channel;
  return 0;
}

/* ---- the image ---- */

int upgrade_image_open(struct upgrade_image *image, const struct upgrade_image_setup *setup) {
  const char *path = setup->program->path;
  *image = (struct upgrade_image){.binary = -1, .path = path};
  if (path[0] == 0) {
    return fail(ENOENT);
  }
  image->binary = open(path, O_PATH | O_CLOEXEC); /* it needs no right to read, and never waits */
  if (image->binary == -1) {
    return -1;
  }
  if (find_arguments(&image->arguments, path) == -1 || make_environment(image, setup) == -1) {
    upgrade_image_close(image);
    return fail(ENOMEM);
  }
  return 0;
}

void upgrade_image_close(struct upgrade_image *image) {
  if (image->binary != -1) {
    sys_close(image->binary);
    image->binary = -1;
  }
  texts_free(&image->arguments);
  texts_free(&image->environment);
}

void upgrade_image_set_channel(struct upgrade_image *image, int fd, pid_t child) {
  snprintf(image->channel, sizeof(image->channel), UPGRADE_CHANNEL_NAME "=%d,%d,%s", fd, (int)child,
           image->path);
}

void upgrade_image_execute(const struct upgrade_image *image, int channel) {
  if (fcntl(channel, F_SETFD, 0) == 0) {
    /* it returns on failure */
    (void)syscall(SYS_execveat, image->binary, "", image->arguments.list, image->environment.list,
                  AT_EMPTY_PATH);
    int error = errno;
    (void)fcntl(channel, F_SETFD, FD_CLOEXEC); /* cannot fail: it is open */
    errno = error;
  }
}

/* ---- in the new program ---- */

/* Read the number before the next comma of ${*text}, and go behind that. Return: is there one? */
static bool read_number(const char **text, int *number) {
  char digits[16];
  uint64_t value;
  size_t size = strcspn(*text, ",");
  if (size >= sizeof(digits) || (*text)[size] == 0) {
    return false;
  }
  memcpy(digits, *text, size);
  digits[size] = 0;
  *text += size + 1;
  if (parse_u64(digits, &value) == -1 || value > INT_MAX) {
    return false;
  }
  *number = (int)value;
  return true;
}

/* Return: is ${text} valid? */
static bool read_channel(const char *text, struct upgrade_inherited *inherited) {
  int child;
  if (!read_number(&text, &inherited->channel) || !read_number(&text, &child)) {
    return false;
  }
  inherited->child = (pid_t)child;
  inherited->path = text;
  return text[0] == '/' && strlen(text) < PATH_MAX;
}

int upgrade_inherited_find(struct upgrade_inherited *inherited, const char *const *environment,
                           const char ***list) {
  const char *text = env_vars_find(environment, UPGRADE_CHANNEL_NAME);
  size_t count = 0, used = 0;
  *list = NULL;
  if (text == NULL || !read_channel(text, inherited)) {
    return fail(EINVAL);
  }
  while (environment[count] != NULL) {
    count++;
  }
  *list = calloc(count + 1, sizeof(**list));
  if (*list == NULL) {
    return -1;
  }
  for (size_t i = 0; i < count; i++) {
    if (!is_named(environment[i], UPGRADE_CHANNEL_NAME)) {
      (*list)[used++] = environment[i];
    }
  }
  return 0;
}
