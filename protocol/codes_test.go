package protocol_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol"
)

// codes are the constants of type Code in errors.go.
func codes(t *testing.T) (list []sealmq.Code) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "errors.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := v.Type.(*ast.Ident); ok && name.Name == "Code" {
			for _, x := range v.Values {
				code, err := strconv.Unquote(x.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, sealmq.Code(code))
			}
		}
		return true
	})
	return list
}

func TestEveryCodeHasOneReply(t *testing.T) {
	var got []sealmq.Code
	for _, r := range protocol.Replies() {
		if r.Sentence == "" {
			t.Errorf("%s has no sentence", r.Code)
		}
		got = append(got, r.Code)
	}
	want := codes(t)
	slices.Sort(got)
	slices.Sort(want)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("the table has %q, errors.go has %q", got, want)
	}
}

func TestReplyShowsNothingOfInternalErrors(t *testing.T) {
	for _, r := range protocol.Replies() {
		err := fmt.Errorf("wrapped: %w", &sealmq.Error{Code: r.Code, Err: errors.New("secret")})
		if got, ok := protocol.ReplyTo(err); got != r || !ok {
			t.Errorf("%s: %+v", r.Code, got)
		}
		own := &sealmq.Error{Code: r.Code, Message: "its own sentence", Err: errors.New("secret")}
		if got, ok := protocol.ReplyTo(own); got.Code != r.Code || got.Sentence != "its own sentence" || !ok {
			t.Errorf("%s with a sentence: %+v", r.Code, got)
		}
	}
	for _, err := range []error{errors.New("disk /var/lib on fire"), &sealmq.Error{Message: "no code"}, &sealmq.Error{Code: "unheard_of", Message: "secret"}} {
		if r, ok := protocol.ReplyTo(err); ok {
			t.Errorf("%v is shown as %+v", err, r)
		}
	}
}
