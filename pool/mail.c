/*
 * mail: see mail.h.
 *
 * The memory of a letter comes from malloc on the sender's thread and is freed on the worker's; how
 * much of it there is at a time is bounded by MAIL_MAX, and for issues by what the members' queues
 * may hold.
 */
#include "pool/mail.h"

#include "net/conn.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* One worker's letter of an issue. */
struct issue_letter {
  struct letter letter;
  struct issue *issue;
  bool begun; /* the visit of the members: the worker's */
};

struct issue {
  atom_u32 shares;
  uint64_t group;
  uint8_t *bytes; /* behind the letters */
  size_t size;
  struct issue_letter letters[];
};

static struct call *call_of(struct letter *letter) {
  return container_of(letter, struct call, letter);
}

static struct issue_letter *issue_letter_of(struct letter *letter) {
  return container_of(letter, struct issue_letter, letter);
}

/* ---- making them --------------------------------------------------------------------------- */

struct call *call_create(uint64_t id, void (*call)(struct xchg_conn *conn, void *argument),
                         void *argument) {
  struct call *made = malloc(sizeof(*made));
  if (made != NULL) {
    *made = (struct call){
        .letter = {.kind = LETTER_CALL}, .id = id, .call = call, .argument = argument};
  }
  return made;
}

struct issue *issue_create(uint64_t group, const void *data, size_t size, uint32_t letters) {
  size_t head = sizeof(struct issue) + letters * sizeof(struct issue_letter);
  struct issue *issue = malloc(head + size);
  if (issue == NULL) {
    return NULL;
  }
  *issue = (struct issue){
      .shares = letters + 1, .group = group, .bytes = (uint8_t *)issue + head, .size = size};
  for (uint32_t i = 0; i < letters; i++) {
    issue->letters[i] = (struct issue_letter){.letter = {.kind = LETTER_ISSUE}, .issue = issue};
  }
  if (size > 0) {
    memcpy(issue->bytes, data, size);
  }
  return issue;
}

struct letter *issue_letter(struct issue *issue, uint32_t i) {
  return &issue->letters[i].letter;
}

/* The last one to give up a share must see what all others did: acquire and release in one. */
static void give_up(void *argument) {
  struct issue *issue = argument;
  if (atom_sub_acq_rel_u32(&issue->shares, 1) == 1) {
    free(issue);
  }
}

void issue_release(struct issue *issue) { give_up(issue); }

/* ---- sending them -------------------------------------------------------------------------- */

bool mail_full(struct inbox *inbox) {
  return atom_load_relaxed_u32(&inbox->mail) >= MAIL_MAX ||
         atom_load_relaxed_u64(&inbox->mail_bytes) > MAIL_BYTES_MAX;
}

bool mail_over(struct inbox *inbox) { return atom_load_relaxed_u32(&inbox->ended) != 0; }

uint64_t mail_bytes(struct letter *letter) {
  return letter->kind == LETTER_ISSUE ? issue_letter_of(letter)->issue->size : 0;
}

void mail_send(struct inbox *inbox, struct letter *letter) {
  atom_add_relaxed_u32(&inbox->mail, 1);
  atom_add_relaxed_u64(&inbox->mail_bytes, mail_bytes(letter));
  inbox_push_mpsc(inbox, letter);
}

/* ---- dealing with them --------------------------------------------------------------------- */

static void make_call(struct conn_host *host, struct call *call) {
  struct xchg_conn *conn = conn_find(host, call->id);
  if (conn != NULL && call->offloaded) {
    assert(conn->more->offloads > 0);
    conn->more->offloads--;
    conn_touch(conn);
  }
  call->call(conn, call->argument);
  free(call);
}

static bool visit_members(struct conn_host *host, struct issue_letter *letter, uint32_t *budget) {
  struct issue *issue = letter->issue;
  const struct loan loan = {
      .data = issue->bytes, .size = issue->size, .release = give_up, .argument = issue};
  if (host->groups.chains == NULL) {
    return true; /* nobody has ever joined here */
  }
  if (!letter->begun) {
    letter->begun = true;
    group_begin(&host->groups, issue->group);
  }
  for (; *budget > 0; (*budget)--) {
    enum xchg_slow slow;
    struct xchg_conn *conn = group_next(&host->groups, &slow);
    if (conn == NULL) {
      return true;
    }
    atom_add_relaxed_u32(&issue->shares, 1);
    if (!conn_publish(conn, slow, &loan)) {
      give_up(issue); /* NOLINT(clang-analyzer-unix.Malloc): shares are counted, ours is left */
    }
  }
  return false;
}

bool mail_deal(struct conn_host *host, struct inbox *inbox, struct letter *letter,
               uint32_t *budget) {
  uint64_t bytes = mail_bytes(letter);
  conn_beat(host);
  if (letter->kind == LETTER_CALL) {
    (*budget)--;
    stats_add(&host->stats->posts, !call_of(letter)->offloaded);
    make_call(host, call_of(letter));
  } else {
    struct issue_letter *own = issue_letter_of(letter);
    if (!visit_members(host, own, budget)) {
      return false;
    }
    give_up(own->issue); /* NOLINT(clang-analyzer-unix.Malloc): the letter's own, the last here */
    *budget -= *budget > 0; /* one without members is not for nothing either */
  }
  atom_sub_release_u32(&inbox->mail, 1);
  atom_add_relaxed_u64(&inbox->mail_bytes, -bytes);
  return true;
}

void mail_discard(struct letter *letter) {
  if (letter->kind == LETTER_CALL) {
    struct call *call = call_of(letter);
    call->call(NULL, call->argument);
    free(call);
  } else if (letter->kind == LETTER_ISSUE) {
    give_up(issue_letter_of(letter)->issue);
  }
}
