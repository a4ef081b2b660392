package receive_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/receive"
	"github.com/sealmq/sealmq/seal"
)

// distant is a connection whose writes arrive later, in their order.
type distant struct {
	net.Conn
	after  time.Duration
	way    chan parcel
	closed chan struct{}
	close  func()
}

type parcel struct {
	due  time.Time
	data []byte
}

func newDistant(conn net.Conn, after time.Duration) *distant {
	d := &distant{Conn: conn, after: after, way: make(chan parcel, 1<<16), closed: make(chan struct{})}
	d.close = sync.OnceFunc(func() { close(d.closed) })
	go func() {
		for {
			select {
			case p := <-d.way:
				select {
				case <-time.After(time.Until(p.due)):
				case <-d.closed:
					return
				}
				if _, err := conn.Write(p.data); err != nil {
					return
				}
			case <-d.closed:
				return
			}
		}
	}()
	return d
}

func (d *distant) Write(p []byte) (int, error) {
	d.way <- parcel{time.Now().Add(d.after), bytes.Clone(p)}
	return len(p), nil
}

func (d *distant) Close() error {
	d.close()
	return d.Conn.Close()
}

// forgeries are well-formed messages for bob that name certificates that nobody has, each
// others.
func forgeries(t *testing.T, n int) (list []sealmq.Message) {
	t.Helper()
	leaf := testca.New(t).Leaf("alice", "")
	signer, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	s, err := seal.NewSealer(seal.SealerConfig{Receivers: []seal.Receiver{{Name: "bob", Key: bobsKey().Public()}},
		Signer: func() (*seal.Signer, error) { return signer, nil }, OmitChain: func(*seal.Signer) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.Seal(seal.Content{ID: "forged", Exchange: "post", RoutingKey: "bob", Body: []byte("text")})
	if err != nil {
		t.Fatal(err)
	}
	_, epoch, _ := bytes.Cut(body, []byte(`"epoch":"`))
	epoch, _, _ = bytes.Cut(epoch, []byte(`"`))
	raw, err := base64.StdEncoding.DecodeString(string(epoch))
	if err != nil {
		t.Fatal(err)
	}
	_, sum := signer.Chain()
	at := bytes.Index(raw, sum[:])
	for i := range n {
		_, _ = rand.Read(raw[at : at+len(sum)])
		id := fmt.Sprint("forged-", i)
		forged := bytes.Replace(body, epoch, []byte(base64.StdEncoding.EncodeToString(raw)), 1)
		forged = bytes.Replace(forged, []byte(`"forged"`), []byte(`"`+id+`"`), 1)
		list = append(list, sealmq.Message{Exchange: "post", Key: "bob", ID: id, Body: forged})
	}
	return list
}

// Messages that name certificates that nobody has delay no others, however many they are and
// however few the receiver takes at a time, and are refused for good.
func TestForgeriesDelayNobody(t *testing.T) {
	const honest, roundTrip = 12, 40 * time.Millisecond
	forged := 5000
	if testing.Short() {
		forged = 500
	}
	for prefetch, limit := range map[int]int{4096: 0, 0: 0, 4: 1} {
		t.Run(fmt.Sprint("prefetch ", prefetch, " limit ", limit), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				network, ca := testnode.NewPipes(), testca.New(t)
				n := testnode.Start(t, testnode.Config{CA: ca, Network: network, Directory: testnode.NewDirectory(t, ca)})
				e := newEnds(t, n)
				e.bind(t)
				for _, res := range e.dial(t, "mallory").PublishBatch(t.Context(), forgeries(t, forged)) {
					if res.Err != nil {
						t.Fatal(res.Err)
					}
				}
				s := e.sender(t, e.dial(t, "alice"), nil)
				for i := range honest {
					e.sends(t, s, fmt.Sprint("letter ", i))
				}
				far := n.Dial(client.Config{TLS: ca.ClientTLS("bob"), Dial: func(ctx context.Context, network_, addr string) (net.Conn, error) {
					conn, err := network.Dial(ctx, network_, addr)
					if err != nil {
						return nil, err
					}
					return newDistant(conn, roundTrip), nil
				}})
				began := time.Now()
				r := e.receiver(t, far, nil, func(cfg *receive.Config) { cfg.Prefetch = prefetch })
				for got := 0; got < honest; {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					list, err := r.Next(ctx, limit)
					cancel()
					if err != nil {
						t.Fatalf("after %d: %v", got, err)
					}
					for _, m := range list {
						if want := fmt.Sprint("letter ", got); string(m.Text) != want {
							t.Fatalf("%q, want %q", m.Text, want)
						}
						got++
					}
					if err := r.Commit(receive.Output{}, list...); err != nil {
						t.Fatal(err)
					}
				}
				took := time.Since(began)
				t.Logf("behind %d forgeries %d letters took %v", forged, honest, took)
				if took > time.Second {
					t.Errorf("behind %d forgeries %d letters took %v", forged, honest, took)
				}
				if list, err := within(t, r, 5*time.Minute); err == nil {
					t.Fatalf("%q", texts(list))
				}
				if st, dead := r.Stats(), e.left(t, "inbox.dead"); st.Refused != uint64(forged) || dead != forged || e.left(t, "inbox") != 0 {
					t.Errorf("%+v, %d are dead", st, dead)
				}
			})
		})
	}
}
