package testnode

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/testca"
)

// ForExample starts a node for an Example function, and writes the certificates of people
// into a folder, as "sealmq cert issue" does. The folder is for other files too.
func ForExample(names ...string) (dir, addr string, stop func()) {
	tb := &exampleTB{}
	dir, err := os.MkdirTemp("", "sealmq-example")
	if err != nil {
		tb.Fatal(err)
	}
	ca := testca.New(tb)
	testca.WriteFile(tb, filepath.Join(dir, "ca.crt"), ca.RootPEM())
	for _, name := range names {
		testca.WriteLeaf(tb, dir, name, ca.Leaf(name, ""))
	}
	n := Start(tb, Config{CA: ca, Directory: NewDirectory(tb, ca)})
	return dir, n.Addr, func() {
		n.Stop()
		os.RemoveAll(dir)
	}
}

// exampleTB is what a node needs of a test.
type exampleTB struct{ testing.TB }

func (exampleTB) Helper()                  {}
func (exampleTB) Cleanup(func())           {}
func (exampleTB) Context() context.Context { return context.Background() }
func (exampleTB) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }
func (exampleTB) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
