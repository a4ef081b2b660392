package netns

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sealmq/sealmq/internal/testing/server"
)

// Network is hosts around a router. It is safe for concurrent use.
type Network struct {
	router *os.File // its namespace

	mu    sync.Mutex
	hosts []*Host
}

// Host is a machine of a network.
type Host struct {
	Name, IP string
	space    *os.File
}

// New makes a network without hosts.
func New() (*Network, error) {
	for _, name := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(name); err != nil {
			return nil, fmt.Errorf("%s: %w; the Debian packages are iproute2 and util-linux", name, server.ErrNotInstalled)
		}
	}
	space, err := newSpace()
	if err != nil {
		return nil, err
	}
	n := &Network{router: space}
	// Each namespace has a switch of its own.
	if err := in(space, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// newSpace makes a namespace and holds it open.
func newSpace() (space *os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // until the thread ends with this goroutine
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			space, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
	}()
	<-done
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return space, nil
}

// in runs f in a namespace, on a thread of its own. Sockets that f opens stay there.
func in(space *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // until the thread ends with this goroutine
		err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

func path(space *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), space.Fd()) }

// ip runs commands of ip in a namespace.
func ip(space *os.File, commands ...string) error {
	cmd := exec.Command("nsenter", "--net="+path(space), "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	return nil
}

// Host adds a host, which reaches all others.
func (n *Network) Host(name string) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := len(n.hosts) + 1
	space, err := newSpace()
	if err != nil {
		return nil, err
	}
	h := &Host{Name: name, IP: fmt.Sprintf("10.77.%d.2", number), space: space}
	n.hosts = append(n.hosts, h)
	router, link := fmt.Sprintf("10.77.%d.1", number), fmt.Sprint("host", number)
	err = ip(n.router, fmt.Sprintf("link add %s type veth peer name eth0 netns %s", link, path(space)), fmt.Sprintf("address add %s/24 dev %s", router, link), "link set "+link+" up")
	if err != nil {
		return nil, err
	}
	return h, ip(space, "link set lo up", fmt.Sprintf("address add %s/24 dev eth0", h.IP), "link set eth0 up", "route add default via "+router)
}

// Cut loses whatever two hosts send each other from now on, without a word to either.
func (n *Network) Cut(a, b *Host) error { return n.rules("add", a, b) }

// Mend undoes Cut.
func (n *Network) Mend(a, b *Host) error { return n.rules("delete", a, b) }

func (n *Network) rules(do string, a, b *Host) error {
	return ip(n.router, fmt.Sprintf("rule %s blackhole from %s to %s", do, a.IP, b.IP), fmt.Sprintf("rule %s blackhole from %s to %s", do, b.IP, a.IP))
}

// Close lets the network go. What still runs in it keeps it until it ends.
func (n *Network) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, h := range n.hosts {
		h.space.Close()
	}
	n.router.Close()
}

// Addr is an address of the host.
func (h *Host) Addr(port string) string { return net.JoinHostPort(h.IP, port) }

// Program writes a program into a folder that runs another one on this host, in the process
// that the program was started as.
func (h *Host) Program(folder, exe string) (string, error) {
	name := filepath.Join(folder, "on-"+h.Name)
	return name, os.WriteFile(name, []byte(fmt.Sprintf("#!/bin/sh\nexec nsenter --net=%s '%s' \"$@\"\n", path(h.space), exe)), 0o700)
}

// Dial connects from this host. The address must be a number.
func (h *Host) Dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = in(h.space, func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// Listen listens on this host.
func (h *Host) Listen(port string) (l net.Listener, err error) {
	err = in(h.space, func() (err error) {
		l, err = (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", h.Addr(port))
		return err
	})
	return l, err
}
