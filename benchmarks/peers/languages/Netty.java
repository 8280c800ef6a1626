/*
 * Netty: event loop groups of its own: one thread accepts, N threads serve.
 *
 * Started as `netty PORT echo|greet|hello [N]`; N is by default the number of usable CPUs. The
 * transport is NIO, because Debian's package has no native one. Buffers are pooled and direct, which
 * is Netty's default, and have 4 KiB. The default size adapts to the reads. It then fits a message
 * exactly, so that each full buffer costs a further read. Echoes are flushed once per read loop.
 * TCP_NODELAY: on, the default of Netty. Backlog: 4096. A client that does not read is not read.
 */
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.FixedRecvByteBufAllocator;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.ChannelInputShutdownEvent;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.util.ReferenceCountUtil;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;

public final class Netty {
  private static final int BACKLOG = 4096;
  private static final int BUFFER_SIZE = 4096;
  private static final byte[] GREETING = "Message from server\0".getBytes(StandardCharsets.US_ASCII);
  private static final ByteBuf GREETING_BUFFER =
      Unpooled.unreleasableBuffer(Unpooled.directBuffer(GREETING.length).writeBytes(GREETING).asReadOnly());

  /** What all exchanges share: an error closes the connection. */
  private abstract static class Exchange extends ChannelInboundHandlerAdapter {
    @Override
    public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
      context.close();
    }
  }

  /** Send every byte back until the client closes. */
  @Sharable
  private static final class Echo extends Exchange {
    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
      context.write(message, context.voidPromise());
    }

    @Override
    public void channelReadComplete(ChannelHandlerContext context) {
      context.flush();
    }

    @Override
    public void channelWritabilityChanged(ChannelHandlerContext context) {
      context.channel().config().setAutoRead(context.channel().isWritable());
    }

    /** The client has half-closed: close after the last echo. */
    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) {
      if (event instanceof ChannelInputShutdownEvent) {
        context.writeAndFlush(Unpooled.EMPTY_BUFFER).addListener(ChannelFutureListener.CLOSE);
      }
    }
  }

  /** Send the greeting and receive one message up to a 0 byte. */
  @Sharable
  private static final class Greet extends Exchange {
    @Override
    public void channelActive(ChannelHandlerContext context) {
      context.writeAndFlush(GREETING_BUFFER.duplicate(), context.voidPromise());
    }

    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
      ByteBuf bytes = (ByteBuf) message;
      boolean complete = bytes.indexOf(bytes.readerIndex(), bytes.writerIndex(), (byte) 0) != -1;
      ReferenceCountUtil.release(message);
      if (complete) {
        context.close();
      }
    }

    @Override
    public void userEventTriggered(ChannelHandlerContext context, Object event) {
      if (event instanceof ChannelInputShutdownEvent) {
        context.close();
      }
    }
  }

  @Sharable
  private static final class Hello extends Exchange {
    @Override
    public void channelActive(ChannelHandlerContext context) {
      context.writeAndFlush(GREETING_BUFFER.duplicate()).addListener(ChannelFutureListener.CLOSE);
    }
  }

  private static RuntimeException usage() {
    System.err.println("usage: netty PORT echo|greet|hello [N]");
    System.exit(64);
    return new IllegalArgumentException();
  }

  private static Exchange exchange(String name) {
    switch (name) {
      case "echo":
        return new Echo();
      case "greet":
        return new Greet();
      case "hello":
        return new Hello();
      default:
        throw usage();
    }
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length < 2 || arguments.length > 3) {
      throw usage();
    }
    Exchange exchange = exchange(arguments[1]);
    int threads = arguments.length == 3 ? Integer.parseInt(arguments[2]) : Runtime.getRuntime().availableProcessors();
    EventLoopGroup acceptors = new NioEventLoopGroup(1);
    EventLoopGroup workers = new NioEventLoopGroup(threads);
    Channel listener =
        new ServerBootstrap()
            .group(acceptors, workers)
            .channel(NioServerSocketChannel.class)
            .option(ChannelOption.SO_BACKLOG, BACKLOG)
            .childOption(ChannelOption.ALLOW_HALF_CLOSURE, true)
            .childOption(ChannelOption.RCVBUF_ALLOCATOR, new FixedRecvByteBufAllocator(BUFFER_SIZE))
            .childHandler(
                new ChannelInitializer<Channel>() {
                  @Override
                  protected void initChannel(Channel channel) {
                    channel.pipeline().addLast(exchange);
                  }
                })
            .bind("127.0.0.1", Integer.parseInt(arguments[0]))
            .sync()
            .channel();
    System.out.println("listening 127.0.0.1:" + ((InetSocketAddress) listener.localAddress()).getPort());
    listener.closeFuture().sync();
  }
}
