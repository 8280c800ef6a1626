/* privileges: see privileges.h.  The kernel's structs are used as they are, without libcap. */
#include "pool/privileges.h"

#include "core/base.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PASSWD "/etc/passwd"

/* The kernel has at most this many capabilities: the sets are of 64 bits. */
#define CAPABILITIES_MAX 64

struct capabilities {
  struct __user_cap_data_struct half[_LINUX_CAPABILITY_U32S_3]; /* the low 32 bits first */
};

/* ---- the user ---- */

/* Not getpwnam: it would load the modules of nsswitch.conf as root, and a static program cannot. */
static const char *look_up(struct config_user *user) {
  FILE *stream = fopen(PASSWD, "re");
  if (stream == NULL) {
    return "cannot open " PASSWD "; use a number";
  }
  const struct passwd *entry;
  do {
    entry = fgetpwent(stream);
  } while (entry != NULL && strcmp(entry->pw_name, user->name) != 0);
  (void)fclose(stream); /* it was only read */
  if (entry == NULL) {
    return PASSWD " has no such user; use its number";
  }
  user->uid = entry->pw_uid;
  user->gid = entry->pw_gid;
  return NULL;
}

/* Does the process have the ids of ${user}, and no others to return to? */
static bool is_user(const struct config_user *user) {
  uid_t uid, effective_uid, saved_uid;
  gid_t gid, effective_gid, saved_gid;
  return getresuid(&uid, &effective_uid, &saved_uid) == 0 && uid == user->uid &&
         effective_uid == uid && saved_uid == uid &&
         getresgid(&gid, &effective_gid, &saved_gid) == 0 && gid == user->gid &&
         effective_gid == gid && saved_gid == gid;
}

const char *privileges_find_user(struct config_user *user) {
  const char *wrong = user->name[0] == 0 ? NULL : look_up(user);
  if (wrong != NULL || is_user(user)) {
    return wrong;
  }
  if (geteuid() != 0) {
    return "only root can become another user";
  }
  return user->uid == 0 ? "want another user than root" : NULL;
}

const char *privileges_become(const struct config_user *user) {
  if (is_user(user)) {
    return NULL;
  }
  if (setgroups(0, NULL) == -1) {
    return "cannot give up the supplementary groups";
  }
  if (setresgid(user->gid, user->gid, user->gid) == -1) {
    return "cannot become the group of XCHG_USER";
  }
  if (setresuid(user->uid, user->uid, user->uid) == -1) {
    return "cannot become XCHG_USER";
  }
  /* A filter of system calls may pretend that these calls work. */
  if (!is_user(user) || getgroups(0, NULL) != 0 || setresuid(0, 0, 0) != -1) {
    errno = EPERM;
    return "the change to XCHG_USER has no effect";
  }
  return NULL;
}

/* ---- capabilities ---- */

/* Sets begin as this one: valgrind does not know that capget fills both halves. */
static const struct capabilities none = {.half[0].effective = 0};

/* Return: 0, or -1 with errno. */
static int call(long number, struct capabilities *set) {
  struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
  return (int)syscall(number, &head, set->half);
}

static bool has(const struct capabilities *set, unsigned number) {
  return (set->half[number / 32].effective >> number % 32 & 1) != 0;
}

int privileges_bound(void) {
  struct capabilities set = none;
  if (call(SYS_capget, &set) == -1) {
    return -1;
  }
  for (unsigned i = 0; i < CAPABILITIES_MAX && has(&set, CAP_SETPCAP); i++) {
    if (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == -1) {
      return errno == EINVAL ? 0 : -1; /* the kernel has no more */
    }
  }
  return 0;
}

int privileges_drop(void) {
  struct capabilities set = none, nothing = none;
  if (call(SYS_capget, &set) == -1) {
    return -1;
  }
  bool empty = memcmp(&set, &none, sizeof(set)) == 0;
  return empty ? 0 : call(SYS_capset, &nothing); /* the ambient set is empty then, too */
}

uint64_t privileges_held(void) {
  struct capabilities set = none;
  if (call(SYS_capget, &set) == -1) {
    return UINT64_MAX;
  }
  return (uint64_t)set.half[1].permitted << 32 | set.half[0].permitted;
}

/* ---- files ---- */

int privileges_set_core(bool allowed) { return prctl(PR_SET_DUMPABLE, allowed ? 1 : 0, 0, 0, 0); }

/*
 * In a folder with the sticky bit, only the owner of the file or of the folder can remove a file.
 */
bool privileges_may_remove(const char *path) {
  char folder[sizeof(((struct addr_listen *)0)->path)];
  struct stat of_folder, of_file;
  size_t size = (size_t)(strrchr(path, '/') + 1 - path);
  memcpy(folder, path, size); /* with its last slash */
  folder[size] = 0;
  if (access(folder, W_OK | X_OK) == -1 || stat(folder, &of_folder) == -1) {
    return false;
  }
  return (of_folder.st_mode & S_ISVTX) == 0 || of_folder.st_uid == geteuid() ||
         (lstat(path, &of_file) == 0 && of_file.st_uid == geteuid());
}
