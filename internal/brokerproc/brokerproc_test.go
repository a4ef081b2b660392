package brokerproc_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealmq/sealmq/internal/brokerproc"
)

// The test binary plays the broker when it is called as "sealmq serve", and a process
// that starts a broker when it is called as "parent". The data folder's name says how
// the broker behaves.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "serve":
		os.Exit(fakeBroker(os.Args[2:]))
	case len(os.Args) > 1 && os.Args[1] == "say":
		os.Exit(fakeCommand(os.Args[2:]))
	case len(os.Args) > 1 && os.Args[1] == "parent":
		os.Exit(fakeParent())
	}
	goleak.VerifyTestMain(m)
}

func fakeBroker(args []string) int {
	data := args[2]
	switch data {
	case "busy":
		fmt.Fprintln(os.Stderr, "starting")
		fmt.Fprintln(os.Stderr, "sealmq: error: address already in use")
		fmt.Fprintln(os.Stderr, "sealmq: hint: choose another")
		return 1
	case "silent":
		forever()
	case "env":
		fmt.Fprintf(os.Stderr, "sealmq: error: %q %q\n", os.Getenv("SEALMQ_DATA"), os.Getenv("EXTRA"))
		return 1
	}
	l, err := net.Listen("tcp", args[4])
	if err != nil {
		return 1
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	json.NewEncoder(os.Stdout).Encode(brokerproc.Ready{Addr: l.Addr().String(), MetricsAddr: args[6], Data: data, PID: os.Getpid()})
	fmt.Fprintln(os.Stderr, "serving")
	if data == "stubborn" {
		forever()
	}
	<-interrupted
	if data == "fails" {
		fmt.Fprintln(os.Stderr, "sealmq: error: cannot stop")
		return 1
	}
	return 0
}

func fakeCommand(args []string) int {
	fmt.Println(args[0])
	if len(args) > 1 {
		fmt.Fprintln(os.Stderr, "sealmq: error: "+args[1])
		return 1
	}
	return 0
}

func fakeParent() int {
	p, err := brokerproc.Start(context.Background(), brokerproc.Config{Exe: os.Args[0], Data: "ok"})
	if err != nil {
		return 1
	}
	fmt.Println(p.Addr)
	forever()
	return 0
}

// forever blocks in a way that Go's runtime does not take for a deadlock.
func forever() {
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	for range interrupted {
	}
}

func start(t *testing.T, data string) *brokerproc.Process {
	t.Helper()
	var log bytes.Buffer
	p, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: os.Args[0], Data: data, Log: &log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func TestStartWaitsUntilClientsAreAccepted(t *testing.T) {
	p := start(t, "ok")
	c, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if p.PID == 0 || p.Data != "ok" || p.MetricsAddr == "" || p.Took <= 0 {
		t.Errorf("incomplete: %+v took %v", p.Ready, p.Took)
	}
	p.Kill()
	p.Kill() // also when it is gone
	if c, err := net.Dial("tcp", p.Addr); err == nil {
		c.Close()
		t.Error("the broker still accepts after Kill")
	}
}

func TestStopAsksFirst(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be interrupted there")
	}
	if err := start(t, "ok").Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := start(t, "fails").Stop(t.Context()); err == nil || !strings.HasSuffix(err.Error(), ": cannot stop") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p := start(t, "stubborn")
	if err := p.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-p.Done()
}

func TestStartSaysWhyNot(t *testing.T) {
	t.Setenv("SEALMQ_DATA", "of the user")
	for _, tt := range []struct {
		cfg  brokerproc.Config
		want string
	}{
		{brokerproc.Config{Exe: os.Args[0], Data: "busy"}, "start broker: it said: address already in use"},
		{brokerproc.Config{Exe: os.Args[0], Data: "env", Env: []string{"EXTRA=1"}}, `start broker: it said: "" "1"`},
		{brokerproc.Config{Exe: os.Args[0], Data: "silent", Timeout: 20 * time.Millisecond}, "start broker: not ready after 20ms"},
	} {
		_, err := brokerproc.Start(t.Context(), tt.cfg)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s: got %v, want %s", tt.cfg.Data, err, tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := brokerproc.Start(ctx, brokerproc.Config{Exe: os.Args[0], Data: "silent"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: "no-such-program", Data: "ok"}); err == nil {
		t.Error("started a program that does not exist")
	}
}

func TestRunSaysHowACommandEnded(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"say", "hello"}, ""},
		{[]string{"say", "hello", "no key"}, "exit status 1: no key"},
	} {
		var out bytes.Buffer
		c, err := brokerproc.Run(brokerproc.CommandConfig{Exe: os.Args[0], Args: tt.args, Out: &out})
		if err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		c.Kill() // also when it is gone
		got := ""
		if err := c.Err(); err != nil {
			got = err.Error()
		}
		if got != tt.want || out.String() != "hello\n" {
			t.Errorf("%q: ended with %q and printed %q", tt.args, got, out.String())
		}
	}
	if _, err := brokerproc.Run(brokerproc.CommandConfig{Exe: "no-such-program", Args: []string{"say"}}); err == nil {
		t.Error("started a program that does not exist")
	}
}

func TestBrokerDiesWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ties a process to its parent")
	}
	parent := exec.Command(os.Args[0], "parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", strings.TrimSpace(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	parent.Process.Kill()
	parent.Wait()
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the broker lives on without its parent")
	}
}
