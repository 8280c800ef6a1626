/* upgrade_send: see upgrade_send.h. */
#include "pool/upgrade_send.h"

#include "core/sys.h"
#include "pool/log_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HANDLER "handler " /* the exchange of a handler begins with it */

static bool send_packet(struct upgrade_channel *channel, const struct upgrade_packet *packet) {
  return upgrade_channel_send(channel, packet) == CHANNEL_OK;
}

void upgrade_exchange(const struct config *config, const struct xchg_handler *handler,
                      char text[UPGRADE_TEXT]) {
  const struct xchg_frame *frame = handler != NULL ? &handler->frame : &config->frame;
  snprintf(text, UPGRADE_TEXT, "%sframe %d size %zu delimiter %d little %d messages %" PRIu64,
           handler != NULL ? HANDLER : "", (int)frame->kind, frame->size, (int)frame->delimiter,
           (int)frame->little_endian, handler != NULL ? handler->messages : config->messages);
}

uint64_t upgrade_live(const struct upgrade_setup *setup) {
  struct model *model = setup->server->model;
  return model->ops->live(model);
}

static uint32_t listeners_of_admin(const struct upgrade_setup *setup) {
  return setup->admin == NULL ? 0 : setup->admin->server.listeners_count;
}

void upgrade_make_hello(const struct upgrade_setup *setup, struct upgrade_hello *hello) {
  *hello = (struct upgrade_hello){
      .pid = (uint64_t)getpid(),
      .now_ns = sys_now_ns(),
      .connections = upgrade_live(setup),
      .listeners =
          setup->server->listeners_count + listeners_of_admin(setup) + (setup->requests->fd != -1),
      .version = XCHG_VERSION,
      .state_version = setup->handler == NULL ? 0 : setup->handler->state_version,
      .together = setup->handler != NULL && setup->handler->together,
  };
  upgrade_exchange(setup->config, setup->handler, hello->exchange);
}

const char *upgrade_why_stay(const struct upgrade_hello *own, const struct upgrade_hello *other) {
  if (strcmp(own->exchange, other->exchange) != 0) {
    return "another exchange";
  }
  bool handler = strncmp(own->exchange, HANDLER, sizeof(HANDLER) - 1) == 0;
  return handler && (own->state_version == 0 || other->state_version == 0)
             ? "their handler has no state_version"
             : NULL;
}

/* Send ${listener}, which ${item} of the configuration names. */
static bool send_listener(struct upgrade_channel *channel, const struct listener *listener,
                          const struct addr_listen *item) {
  const struct upgrade_packet packet = {
      .kind = UPGRADE_LISTENER,
      .listener = {.addr = listener->inherited ? listener->addr : *item,
                   .use = listener->use,
                   .inherited = listener->inherited,
                   .inode = listener->file.inode,
                   .device = listener->file.device,
                   .fd = listener->fd}};
  return send_packet(channel, &packet);
}

static bool send_listeners_of(struct upgrade_channel *channel, const struct xchg_server *server) {
  for (uint32_t i = 0; i < server->listeners_count; i++) {
    if (!send_listener(channel, &server->listeners[i], &server->config->listen[i])) {
      return false;
    }
  }
  return true;
}

bool upgrade_send_listeners(const struct upgrade_setup *setup, struct upgrade_channel *channel) {
  return send_listeners_of(channel, setup->server) &&
         (setup->admin == NULL || send_listeners_of(channel, &setup->admin->server)) &&
         (setup->requests->fd == -1 ||
          send_listener(channel, setup->requests, &setup->config->upgrade_at));
}

bool upgrade_send_totals(const struct upgrade_setup *setup, struct upgrade_channel *channel,
                         uint64_t stays) {
  uint8_t bytes[UPGRADE_TOTALS_MAX];
  struct upgrade_totals totals;
  struct upgrade_packet packet = {.kind = UPGRADE_TOTALS,
                                  .account = {.totals = {.bytes = bytes}, .stays = stays}};
  const struct admin *admin = setup->admin;
  upgrade_totals_look(&totals, setup->server, log_writer_lost(setup->log_writer));
  packet.account.totals.size = upgrade_totals_write(&totals, bytes);
  if (admin != NULL) {
    packet.account.not_ready = atom_load_relaxed_u32(&admin->off);
    packet.account.log_level = atom_load_relaxed_u32(&setup->log->level);
    packet.account.log_until_ns = admin->log_until_ns == NEVER ? 0 : admin->log_until_ns;
  }
  return send_packet(channel, &packet);
}
