// go_net: the standard package net, a goroutine for each connection.
//
// Started as `go_net PORT echo|greet|hello|http [N]`; N threads run goroutines (GOMAXPROCS), by
// default as many as CPUs are usable. A connection takes a buffer of 4 KiB from a pool while it is
// open. A bufio.Reader would only add a copy, because what arrives is sent at once. TCP_NODELAY: on,
// the default of net. TCP keep-alive, which net switches on by default in three system calls a
// connection, is off as in all other programs. Backlog: somaxconn, as net always asks for. http is
// net/http with its defaults and one handler. SIGHUP collects garbage.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
)

const bufferSize = 4096

var greeting = []byte("Message from server\x00")

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// echo sends every byte back until the client closes. Write returns once all bytes are sent.
func echo(conn net.Conn) {
	defer conn.Close()
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		size, err := conn.Read(buffer[:])
		if size > 0 {
			if _, err := conn.Write(buffer[:size]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// greet sends the greeting and receives one message up to a 0 byte.
func greet(conn net.Conn) {
	defer conn.Close()
	if _, err := conn.Write(greeting); err != nil {
		return
	}
	buffer := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buffer)
	for {
		size, err := conn.Read(buffer[:])
		if err != nil || bytes.IndexByte(buffer[:size], 0) != -1 {
			return
		}
	}
}

func hello(conn net.Conn) {
	conn.Write(greeting)
	conn.Close()
}

func die(err error) {
	fmt.Fprintln(os.Stderr, "go_net:", err)
	os.Exit(1)
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: go_net PORT echo|greet|hello|http [N]")
	os.Exit(64)
}

// collectOnHangup returns unused memory to the system on SIGHUP, before it is measured.
func collectOnHangup() {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	go func() {
		for range hangup {
			debug.FreeOSMemory()
		}
	}()
}

func serveHTTP(listener net.Listener) error {
	return http.Serve(listener, http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		answer.Header().Set("Content-Type", "text/plain")
		io.WriteString(answer, "ok\n")
	}))
}

func main() {
	if len(os.Args) < 3 || len(os.Args) > 4 {
		usage()
	}
	if len(os.Args) == 4 {
		count, err := strconv.Atoi(os.Args[3])
		if err != nil || count < 1 {
			usage()
		}
		runtime.GOMAXPROCS(count)
	}
	serve := map[string]func(net.Conn){"echo": echo, "greet": greet, "hello": hello, "http": nil}
	exchange, known := serve[os.Args[2]]
	if !known {
		usage()
	}
	collectOnHangup()
	config := net.ListenConfig{KeepAlive: -1}
	listener, err := config.Listen(context.Background(), "tcp4", "127.0.0.1:"+os.Args[1])
	if err != nil {
		die(err)
	}
	fmt.Printf("listening 127.0.0.1:%d\n", listener.Addr().(*net.TCPAddr).Port)
	if exchange == nil {
		die(serveHTTP(listener))
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			die(err)
		}
		go exchange(conn)
	}
}
