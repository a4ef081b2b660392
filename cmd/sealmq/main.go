// Command sealmq is the whole product in one binary: the broker, the authority that
// issues its certificates, the clients, and the tools to inspect and measure them.
//
// Each group of commands has a file of its own. Only serve.go puts the parts of the broker
// together. The package has no rules of its own: the packages that it calls decide what a
// command does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
)

// errorTime is how long a program that ends waits for somebody to read its error.
const errorTime = 10 * time.Second

func main() {
	if is, err := runAsService(os.Args[1:]); is {
		if err != nil {
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default action is restored, so that a second signal ends
	// a process that does not stop.
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		printed := make(chan struct{})
		go func() {
			defer close(printed)
			printError(os.Stderr, err)
		}()
		select {
		case <-printed:
		case <-time.After(errorTime):
		}
		os.Exit(exitCode(err))
	}
}

// run runs one command line. Commands that need standard input read os.Stdin.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(stderr, "%s\n", debug.Stack())
			err = withHint(fmt.Errorf("internal error: %v", p), "this is a bug; please report it with the lines above")
		}
	}()
	root := newRootCmd()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	started := watchStart(root)
	err = root.ExecuteContext(ctx)
	if err != nil && !*started {
		// Nothing has run yet, so flags, arguments or the command's name are wrong.
		err = asUsage(root, args, err)
	}
	return err
}

// printError writes each error on a line, and on the next line what to do about it, if
// that is known. The lines begin with the program's name, so that they stand out in a log.
// That the command was interrupted is said only if nothing else went wrong.
func printError(w io.Writer, err error) {
	if errors.Is(err, errSilent) {
		return
	}
	list := slices.DeleteFunc(flatten(err), func(e error) bool { return errors.Is(e, context.Canceled) })
	if len(list) == 0 {
		err = errors.New("interrupted")
		list = []error{err}
	}
	for _, e := range list {
		fmt.Fprintf(w, "%s %s\n", colour(w, red, "sealmq: error:"), oneLine(e.Error()))
	}
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(w, "%s %s\n", colour(w, cyan, "sealmq: hint:"), oneLine(hint))
	}
}

// exitCode is 2 for wrong usage and 1 for everything else.
func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return 2
	}
	return 1
}
