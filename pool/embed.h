/*
 * embed: servers within a program that owns its signals and its environment: xchg_server_* and
 * xchg_config_from_env of core/xchg.h, which is the contract; here are the parts that the daemon
 * shares.
 */
#ifndef POOL_EMBED_H
#define POOL_EMBED_H

#include "core/config.h"

/** What the machine allows this process, but for the descriptors: the caller knows which limit. */
void machine_find_facts(struct config_facts *facts);

#endif
