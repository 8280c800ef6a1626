%% erlang_tcp: gen_tcp, a process for each connection.
%%
%% Started as `erlang_tcp PORT echo|greet|hello [N]`; N schedulers, by default as many as CPUs are
%% usable. Ten processes accept, as in Ranch. Sockets are raw, binary and {active, 100}: the runtime
%% delivers a hundred reads before it asks the process, as Cowboy does by default. The user's buffer
%% has 4 KiB. TCP_NODELAY: off by default in gen_tcp, set here on the listener, from which
%% connections take their options. Backlog: 4096. The emulator's threads do not spin before they
%% sleep (+sbwt none), as RabbitMQ starts it. A client that does not read blocks its process. If it
%% half-closes then, the driver of gen_tcp drops what is queued; no measured client does that. SIGHUP
%% collects garbage.
-module(erlang_tcp).
-behaviour(gen_event).
-export([main/0, main/1, accept/2]).
-export([init/1, handle_event/2, handle_call/2]). % of gen_event

-define(GREETING, <<"Message from server", 0>>).
-define(ACCEPTORS, 10).
-define(ACTIVE, 100).

main() ->
    usage().

main([Port, Exchange | _]) ->
    Name = exchange(Exchange),
    Options = [binary, {packet, raw}, {ip, {127, 0, 0, 1}}, {reuseaddr, true}, {backlog, 4096},
               {nodelay, true}, {buffer, 4096}, {exit_on_close, false}, {active, false}],
    {ok, Listener} = gen_tcp:listen(list_to_integer(Port), Options),
    {ok, Bound} = inet:port(Listener),
    ok = os:set_signal(sighup, handle),
    ok = gen_event:add_handler(erl_signal_server, ?MODULE, []),
    io:format("listening 127.0.0.1:~b~n", [Bound]),
    [spawn_link(?MODULE, accept, [Listener, Name]) || _ <- lists:seq(1, ?ACCEPTORS)],
    receive stop -> ok end;
main(_) ->
    usage().

exchange("echo") -> echo;
exchange("greet") -> greet;
exchange("hello") -> hello;
exchange(_) -> usage().

usage() ->
    io:format(standard_error, "usage: erlang_tcp PORT echo|greet|hello [N]~n", []),
    halt(64).

%% Signals: collect the garbage of all processes on SIGHUP, before the memory is measured.
init([]) ->
    {ok, []}.

handle_event(sighup, State) ->
    [erlang:garbage_collect(Process) || Process <- processes()],
    {ok, State};
handle_event(_, State) ->
    {ok, State}.

handle_call(_, State) ->
    {ok, ok, State}.

accept(Listener, Exchange) ->
    case gen_tcp:accept(Listener) of
        {ok, Conn} ->
            Process = spawn(fun() -> receive start -> serve(Exchange, Conn) end end),
            case gen_tcp:controlling_process(Conn, Process) of
                ok -> Process ! start;
                {error, _} -> exit(Process, kill)
            end;
        {error, _} ->
            ok
    end,
    accept(Listener, Exchange).

serve(echo, Conn) ->
    inet:setopts(Conn, [{active, ?ACTIVE}]),
    echo(Conn);
serve(greet, Conn) ->
    inet:setopts(Conn, [{active, ?ACTIVE}]),
    gen_tcp:send(Conn, ?GREETING),
    greet(Conn);
serve(hello, Conn) ->
    gen_tcp:send(Conn, ?GREETING),
    gen_tcp:close(Conn).

%% Send every byte back until the client closes.
echo(Conn) ->
    receive
        {tcp, Conn, Data} ->
            case gen_tcp:send(Conn, Data) of
                ok -> echo(Conn);
                {error, _} -> gen_tcp:close(Conn)
            end;
        {tcp_passive, Conn} ->
            inet:setopts(Conn, [{active, ?ACTIVE}]),
            echo(Conn);
        {tcp_closed, Conn} ->
            gen_tcp:close(Conn);
        {tcp_error, Conn, _} ->
            gen_tcp:close(Conn)
    end.

%% Receive one message up to a 0 byte.
greet(Conn) ->
    receive
        {tcp, Conn, Data} ->
            case binary:match(Data, <<0>>) of
                nomatch -> greet(Conn);
                _ -> gen_tcp:close(Conn)
            end;
        {tcp_passive, Conn} ->
            inet:setopts(Conn, [{active, ?ACTIVE}]),
            greet(Conn);
        {tcp_closed, Conn} ->
            gen_tcp:close(Conn);
        {tcp_error, Conn, _} ->
            gen_tcp:close(Conn)
    end.
