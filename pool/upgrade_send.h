/*
 * upgrade_send: the packets that say what the old process of an upgrade is and has.
 *
 * Thread: main.  Each function returns false if the channel does not take a packet.
 */
#ifndef POOL_UPGRADE_SEND_H
#define POOL_UPGRADE_SEND_H

#include "pool/upgrade_channel.h"
#include "pool/upgrade_totals.h"
#include "pool/admin.h"

/* What an upgrade borrows until it is closed. */
struct upgrade_setup {
  const struct config *config;
  const struct config_facts *facts;
  const char *const *environment;
  const char *program; /* its path, if this process is the new one of an upgrade; else NULL */
  const struct xchg_handler *handler; /* NULL = a built-in exchange */
  struct log *log;
  struct log_writer *log_writer;
  struct xchg_server *server;
  struct admin *admin; /* NULL = there is no endpoint */
  struct service *service;
  const struct upgrade_channel *before; /* to the process before this one, while it lives */
  const struct listener *requests;      /* of XCHG_UPGRADE; not open = there is none */
};

/**
 * The exchange of ${handler}, or the built-in one of ${config} if that is NULL, as text:
 * connections move between equal ones.
 */
void upgrade_exchange(const struct config *config, const struct xchg_handler *handler,
                      char text[UPGRADE_TEXT]);

/** Connections that are open. */
uint64_t upgrade_live(const struct upgrade_setup *setup);

/** Fill in HELLO. */
void upgrade_make_hello(const struct upgrade_setup *setup, struct upgrade_hello *hello);

/** Why no connection moves from the process of ${own} to that of ${other}; NULL = they may. */
const char *upgrade_why_stay(const struct upgrade_hello *own, const struct upgrade_hello *other);

/** Send all listeners: those for clients, of the admin endpoint, of XCHG_UPGRADE. */
bool upgrade_send_listeners(const struct upgrade_setup *setup, struct upgrade_channel *channel);

/** Send what has been counted and set.  ${stays} connections are neither moved nor under way. */
bool upgrade_send_totals(const struct upgrade_setup *setup, struct upgrade_channel *channel,
                         uint64_t stays);

#endif
