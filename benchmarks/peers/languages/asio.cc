/*
 * asio: Boost.Asio with a pool of threads, each with an io_context of its own.
 *
 * Started as `asio PORT echo|greet|hello [N]`; N threads, by default as many as CPUs are usable. The
 * first thread accepts and gives connections to the contexts in turn, as Asio's example "HTTP server
 * 2" does: no lock and no strand is needed. The concurrency hint of a context is 1. A connection has a
 * buffer of 4 KiB. TCP_NODELAY: off by default in Asio, set here on the listener, from which
 * connections inherit it. Backlog: 4096.
 */
#include <sched.h>

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

constexpr int kBacklog = 4096;
constexpr std::size_t kBufferSize = 4096;
constexpr char kGreeting[] = "Message from server"; // with its 0 byte

// A connection. The pending operation holds it; without one it is closed.
class Conn : public std::enable_shared_from_this<Conn> {
 public:
  explicit Conn(tcp::socket socket) : socket_(std::move(socket)) {}

  void echo() {
    socket_.async_read_some(asio::buffer(buffer_), [self = shared_from_this()](error_code error, std::size_t size) {
      if (!error) {
        self->send_back(size);
      }
    });
  }

  void greet() {
    send_greeting([self = shared_from_this()](error_code error, std::size_t) {
      if (!error) {
        self->receive();
      }
    });
  }

  void hello() {
    send_greeting([self = shared_from_this()](error_code, std::size_t) {});
  }

 private:
  void send_back(std::size_t size) {
    asio::async_write(socket_, asio::buffer(buffer_, size), [self = shared_from_this()](error_code error, std::size_t) {
      if (!error) {
        self->echo();
      }
    });
  }

  template <typename Handler>
  void send_greeting(Handler handler) {
    asio::async_write(socket_, asio::buffer(kGreeting, sizeof(kGreeting)), std::move(handler));
  }

  // Receive one message up to a 0 byte.
  void receive() {
    socket_.async_read_some(asio::buffer(buffer_), [self = shared_from_this()](error_code error, std::size_t size) {
      if (!error && std::memchr(self->buffer_.data(), 0, size) == nullptr) {
        self->receive();
      }
    });
  }

  tcp::socket socket_;
  std::array<char, kBufferSize> buffer_;
};

class Server {
 public:
  Server(unsigned short port, void (Conn::*exchange)(), std::size_t threads) : exchange_(exchange) {
    for (std::size_t i = 0; i < threads; i++) {
      contexts_.push_back(std::make_unique<asio::io_context>(1));
      guards_.push_back(asio::make_work_guard(*contexts_.back()));
    }
    acceptor_ = std::make_unique<tcp::acceptor>(*contexts_[0]);
    acceptor_->open(tcp::v4());
    acceptor_->set_option(tcp::acceptor::reuse_address(true));
    acceptor_->set_option(tcp::no_delay(true));
    acceptor_->bind(tcp::endpoint(asio::ip::address_v4::loopback(), port));
    acceptor_->listen(kBacklog);
  }

  void run() {
    std::cout << "listening " << acceptor_->local_endpoint() << std::endl;
    accept();
    std::vector<std::thread> threads;
    for (std::size_t i = 1; i < contexts_.size(); i++) {
      threads.emplace_back([this, i] { contexts_[i]->run(); });
    }
    contexts_[0]->run();
    for (auto &thread : threads) {
      thread.join();
    }
  }

 private:
  void accept() {
    asio::io_context &context = *contexts_[next_];
    next_ = (next_ + 1) % contexts_.size();
    acceptor_->async_accept(context, [this](error_code error, tcp::socket socket) {
      if (!error) {
        start(std::make_shared<Conn>(std::move(socket)));
      }
      accept();
    });
  }

  // Any thread may begin the first operation: nobody else has the connection yet.
  void start(const std::shared_ptr<Conn> &conn) { ((*conn).*exchange_)(); }

  void (Conn::*exchange_)();
  std::vector<std::unique_ptr<asio::io_context>> contexts_;
  std::vector<asio::executor_work_guard<asio::io_context::executor_type>> guards_;
  std::unique_ptr<tcp::acceptor> acceptor_;
  std::size_t next_ = 0;
};

std::size_t usable_cpus() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? static_cast<std::size_t>(CPU_COUNT(&set)) : 1;
}

[[noreturn]] void usage() {
  std::cerr << "usage: asio PORT echo|greet|hello [N]\n";
  std::exit(64);
}

void (Conn::*exchange_of(const std::string &name))() {
  if (name == "echo") {
    return &Conn::echo;
  }
  if (name == "greet") {
    return &Conn::greet;
  }
  if (name == "hello") {
    return &Conn::hello;
  }
  usage();
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 3 || argc > 4) {
    usage();
  }
  const auto exchange = exchange_of(argv[2]);
  try {
    const auto port = static_cast<unsigned short>(std::stoul(argv[1]));
    const std::size_t threads = argc == 4 ? std::max<std::size_t>(std::stoul(argv[3]), 1) : usable_cpus();
    Server(port, exchange, threads).run();
  } catch (const std::exception &problem) {
    std::cerr << "asio: " << problem.what() << '\n';
  }
  return 1;
}
