/*
 * check_machine: the CPU quota of artificial cgroup trees, and usable CPUs.
 *
 * Each test has its own folder, in which `self` stands for /proc/self/cgroup and `root` for
 * /sys/fs/cgroup.
 */
#include "pool/machine.h"

#include "tests/fixtures/cpus.h"
#include "tests/fixtures/run_suite.h"

#include <check.h>
#include <errno.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static char self[128];
static char root[128];

static void setup(void) {
  snprintf(folder, sizeof(folder), "/tmp/check_machine.XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(folder));
  snprintf(self, sizeof(self), "%s/self", folder);
  snprintf(root, sizeof(root), "%s/root", folder);
  ck_assert_int_eq(mkdir(root, 0700), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at) {
  (void)st, (void)type, (void)at;
  return remove(path);
}

static void teardown(void) { nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS); }

static void write_file(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  ck_assert_msg(file != NULL, "%s: %s", path, strerror(errno));
  ck_assert_int_ge(fputs(text, file), 0);
  ck_assert_int_eq(fclose(file), 0);
}

/* Write ${text} to ${path} below root, and make its folders. */
static void put(const char *path, const char *text) {
  char full[512];
  snprintf(full, sizeof(full), "%s/%s", root, path);
  for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
    *slash = 0;
    ck_assert(mkdir(full, 0700) == 0 || errno == EEXIST);
    *slash = '/';
  }
  write_file(full, text);
}

/* The quota if /proc/self/cgroup contains ${text}. */
static uint32_t quota(const char *text) {
  write_file(self, text);
  return machine_cpu_quota(self, root);
}

START_TEST(v2_is_rounded_up) {
  static const struct {
    const char *text;
    uint32_t cpus;
  } cases[] = {
      {"max 100000\n", 0},      {"100000 100000\n", 1},
      {"100001 100000\n", 2},   {"150000 100000\n", 2},
      {"1000 100000\n", 1},     {"400000 100000\n", 4},
      {"50000 10000\n", 5},     {"", 0},
      {"nonsense\n", 0},        {"100000\n", 0},
      {"100000 0\n", 0},        {"-1 100000\n", 0},
      {"0 100000\n", 0},        {"100000 -5\n", 0},
      {"9000000000000 1\n", 0},
  };
  for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
    put("a/cpu.max", cases[i].text);
    uint32_t cpus = quota("0::/a\n");
    ck_assert_msg(cpus == cases[i].cpus, "'%s' gives %u", cases[i].text, cpus);
  }
}
END_TEST

START_TEST(v2_takes_the_smallest_up_to_the_root) {
  put("a/b/c/cpu.max", "max 100000\n");
  ck_assert_uint_eq(quota("0::/a/b/c\n"), 0);
  put("a/cpu.max", "700000 100000\n");
  ck_assert_uint_eq(quota("0::/a/b/c\n"), 7);
  put("a/b/cpu.max", "500000 100000\n");
  ck_assert_uint_eq(quota("0::/a/b/c\n"), 5);
  put("a/b/c/cpu.max", "600000 100000\n");
  ck_assert_uint_eq(quota("0::/a/b/c\n"), 5);
  put("a/b/c/cpu.max", "300000 100000\n");
  ck_assert_uint_eq(quota("0::/a/b/c\n"), 3);
  put("cpu.max", "200000 100000\n");
  ck_assert_uint_eq(quota("0::/a/b/c\n"), 2);
  ck_assert_uint_eq(quota("0::/\n"), 2);
  ck_assert_uint_eq(quota("0::/\n"), 2);
}
END_TEST

START_TEST(v2_does_not_look_above_the_root_or_aside) {
  char above[256];
  snprintf(above, sizeof(above), "%s/cpu.max", folder);
  write_file(above, "100000 100000\n");
  put("a/cpu.max", "900000 100000\n");
  put("a/other/cpu.max", "100000 100000\n");
  put("ab/cpu.max", "100000 100000\n");
  ck_assert_uint_eq(quota("0::/a/b\n"), 9);
  ck_assert_uint_eq(quota("0::/\n"), 0);
}
END_TEST

/* In a container the path is the host's, and only the root is mounted. */
START_TEST(a_missing_path_leaves_the_root) {
  put("cpu.max", "250000 100000\n");
  ck_assert_uint_eq(quota("0::/system.slice/docker-1234.scope\n"), 3);
  ck_assert_uint_eq(quota("0::/../../elsewhere\n"), 3);
}
END_TEST

START_TEST(v1_quota_is_divided_by_the_period) {
  put("cpu,cpuacct/x/cpu.cfs_quota_us", "250000\n");
  put("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  put("cpu,cpuacct/x/y/cpu.cfs_quota_us", "-1\n");
  put("cpu,cpuacct/x/y/cpu.cfs_period_us", "100000\n");
  ck_assert_uint_eq(quota("4:cpu,cpuacct:/x/y\n"), 3);
  ck_assert_uint_eq(quota("9:memory:/x\n4:cpu,cpuacct:/x/y\n"), 3);
  ck_assert_uint_eq(quota("4:cpu,cpuacct:/elsewhere\n"), 0);
  put("cpu,cpuacct/x/y/cpu.cfs_quota_us", "150000\n");
  ck_assert_uint_eq(quota("4:cpu,cpuacct:/x/y\n"), 2);
  put("cpu,cpuacct/x/y/cpu.cfs_period_us", "");
  ck_assert_uint_eq(quota("4:cpu,cpuacct:/x/y\n"), 3);
  put("cpu,cpuacct/x/cpu.cfs_period_us", "0\n");
  ck_assert_uint_eq(quota("4:cpu,cpuacct:/x/y\n"), 0);
}
END_TEST

START_TEST(v1_folder_may_be_named_cpu) {
  put("cpu/x/cpu.cfs_quota_us", "400000\n");
  put("cpu/x/cpu.cfs_period_us", "100000\n");
  ck_assert_uint_eq(quota("4:cpu,cpuacct:/x\n"), 4);
  ck_assert_uint_eq(quota("4:cpuacct,cpu:/x\n"), 4);
  ck_assert_uint_eq(quota("4:cpu:/x\n"), 4);
}
END_TEST

START_TEST(other_controllers_are_ignored) {
  static const char *const names[] = {"cpuset", "cpuacct", "name=systemd", "notcpu"};
  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
    char path[64], text[64];
    snprintf(path, sizeof(path), "%s/x/cpu.cfs_quota_us", names[i]);
    put(path, "100000\n");
    snprintf(path, sizeof(path), "%s/x/cpu.cfs_period_us", names[i]);
    put(path, "100000\n");
    snprintf(text, sizeof(text), "3:%s:/x\n", names[i]);
    ck_assert_uint_eq(quota(text), 0);
  }
}
END_TEST

START_TEST(both_versions_give_the_smaller) {
  put("a/cpu.max", "300000 100000\n");
  put("cpu/x/cpu.cfs_quota_us", "500000\n");
  put("cpu/x/cpu.cfs_period_us", "100000\n");
  ck_assert_uint_eq(quota("4:cpu:/x\n0::/a\n"), 3);
  put("a/cpu.max", "800000 100000\n");
  ck_assert_uint_eq(quota("4:cpu:/x\n0::/a\n"), 5);
}
END_TEST

START_TEST(an_unreadable_file_is_no_quota) {
  ck_assert_uint_eq(machine_cpu_quota("/nonexistent/self", root), 0);
  ck_assert_uint_eq(quota(""), 0);
  ck_assert_uint_eq(quota("nonsense\n"), 0);
  ck_assert_uint_eq(quota("4:cpu\n"), 0);
  ck_assert_uint_eq(quota("::\n"), 0);
  static char longest[9000] = "0::/";
  memset(longest + 4, 'x', sizeof(longest) - 5);
  put("cpu.max", "100000 100000\n");
  ck_assert_uint_eq(quota(longest), 0); /* longer than any path */
}
END_TEST

/* ---- affinity ---- */

static void allow_only(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
}

START_TEST(usable_respects_the_affinity) {
  int cpus[CPU_SETSIZE];
  int count = cpus_of(cpus);
  bool from_cgroup;
  uint32_t usable = machine_usable_cpus(&from_cgroup);
  ck_assert_uint_ge(usable, 1);
  ck_assert_uint_le(usable, (uint32_t)count);
  ck_assert(from_cgroup == (usable < (uint32_t)count));
  allow_only(cpus[count - 1]);
  ck_assert_uint_eq(machine_usable_cpus(&from_cgroup), 1);
  ck_assert(!from_cgroup);
}
END_TEST

int main(void) {
  const struct suite_test tests[] = {
      {v2_is_rounded_up, 1},
      {v2_takes_the_smallest_up_to_the_root, 1},
      {v2_does_not_look_above_the_root_or_aside, 1},
      {a_missing_path_leaves_the_root, 1},
      {v1_quota_is_divided_by_the_period, 1},
      {v1_folder_may_be_named_cpu, 1},
      {other_controllers_are_ignored, 1},
      {both_versions_give_the_smaller, 1},
      {an_unreadable_file_is_no_quota, 1},
      {usable_respects_the_affinity, 1},
  };
  return run_suite_fixture("machine", tests, count_of(tests), setup, teardown);
}
