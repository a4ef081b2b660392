package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testca"
)

// The benchmarks measure the client against a broker that does nothing but answer, over
// mutual TLS on loopback, in the same process: so the figure is that of both ends.

const benchPrefetch = 1000

func BenchmarkPublish(b *testing.B) {
	for _, window := range []int{1, 256, 4096} {
		b.Run("window="+strconv.Itoa(window), func(b *testing.B) {
			c := dialEcho(b, client.Config{Window: window})
			body := make([]byte, 0, 512)
			var failed error
			confirmed := func(err error) {
				if err != nil {
					failed = err
				}
			}
			ctx := context.Background()
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				id := strconv.Itoa(1_000_000_000 + i)
				body = appendBody(body[:0], id)
				if err := c.PublishAsync(ctx, sealmq.Message{Exchange: "bench", Key: "k0", ID: id, Body: body}, confirmed); err != nil {
					b.Fatal(err)
				}
			}
			if err := c.Flush(ctx); err != nil || failed != nil {
				b.Fatal(err, failed)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

func BenchmarkConsume(b *testing.B) {
	c := dialEcho(b, client.Config{})
	ctx := context.Background()
	sub, err := c.Consume(ctx, "q"+strconv.Itoa(b.N), benchPrefetch)
	if err != nil {
		b.Fatal(err)
	}
	batch := make([]sealmq.Delivery, 256)
	b.ReportAllocs()
	b.ResetTimer()
	for got := 0; got < b.N; {
		n, err := sub.Next(ctx, batch)
		if err != nil {
			b.Fatal(err)
		}
		if err := sub.Ack(batch[:n]...); err != nil {
			b.Fatal(err)
		}
		got += n
	}
	if err := c.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
}

// appendBody makes a line of about 400 bytes: 256 opaque bytes in a minimal envelope.
func appendBody(dst []byte, id string) []byte {
	dst = append(dst, `{"message_id":"`...)
	dst = append(dst, id...)
	dst = append(dst, `","receiver_client_id":"receiver_1","enc_session_key":"","nonce":"","tag":"","ciphertext":"`...)
	for range 256 / 8 {
		dst = append(dst, "QUJDREVG"...)
	}
	return append(dst, `"}`...)
}

func dialEcho(tb testing.TB, cfg client.Config) *client.Client {
	tb.Helper()
	ca := testca.New(tb)
	serverTLS := ca.ServerTLS()
	serverTLS.DynamicRecordSizingDisabled = true
	l, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go echo(conn)
		}
	}()
	cfg.Addr = l.Addr().String()
	cfg.TLS = ca.ClientTLS("bench")
	c, err := client.Dial(tb.Context(), cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// echo answers what one read brought with one write. "consume q<n>" makes it push n
// messages, benchPrefetch of them ahead of the acks.
func echo(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 256<<10)
	var end, pushed, push, acked int
	var out []byte
	for {
		n, err := conn.Read(buf[end:])
		if err != nil {
			return
		}
		end += n
		block := buf[:end]
		out = out[:0]
		for {
			i := bytes.IndexByte(block, '\n')
			if i < 0 {
				break
			}
			line := block[:i]
			block = block[i+1:]
			switch {
			case bytes.HasPrefix(line, []byte("publish ")):
				at := bytes.Index(line, []byte(`"message_id":"`)) + len(`"message_id":"`)
				id := line[at:]
				id = id[:bytes.IndexByte(id, '"')]
				out = append(append(append(out, "ACK "...), id...), '\n')
			case bytes.HasPrefix(line, []byte("ack ")):
				out = append(append(append(out, "ACK_CONFIRMED "...), line[4:]...), '\n')
				acked++
			case bytes.HasPrefix(line, []byte("consume ")):
				push, _ = strconv.Atoi(string(line[9:]))
				out = append(out, "Subscribed to queue\n"...)
			case string(line) == "codes on":
				out = append(out, "Codes on\n"...)
			default:
				out = append(out, "Pong\n"...)
			}
		}
		for pushed < push && pushed < acked+benchPrefetch {
			id := strconv.Itoa(1_000_000_000 + pushed)
			out = append(append(append(out, "Message: "...), id...), ' ')
			out = append(appendBody(out, id), '\n')
			pushed++
		}
		end = copy(buf, block)
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}
