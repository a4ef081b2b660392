package keydir

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// Asker is a connection to a broker. *client.Client is one.
type Asker interface {
	// Command sends one line and returns the one line that answers it, without its line
	// feed. A reply that reports an error is an error with its code (sealmq.CodeOf).
	// sealmq.ErrInterrupted says that the connection was lost before the reply came.
	Command(ctx context.Context, line string) (reply string, err error)
}

// ask sends a command and returns what follows the prefix of its reply.
func ask(ctx context.Context, c Asker, line, prefix string) (string, error) {
	reply, err := c.Command(ctx, line)
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(reply, prefix)
	if !ok {
		first, _, _ := strings.Cut(reply, " ")
		return "", fmt.Errorf("the broker answered with %.80q", first)
	}
	return rest, nil
}

// retries bounds how often a command is repeated whose connection was lost.
const retries = 5

// query asks what changes nothing, and asks again if the connection is lost meanwhile.
func query[T any](ctx context.Context, c Asker, prefix, line string) (*T, error) {
	for try := 1; ; try++ {
		reply, err := ask(ctx, c, line, prefix)
		if errors.Is(err, sealmq.ErrInterrupted) && try < retries && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, err
		}
		into := new(T)
		if err := json.Unmarshal([]byte(reply), into); err != nil {
			return nil, notProven("an answer cannot be read")
		}
		return into, nil
	}
}

// findKey asks for a key, and the Verifier whose it is.
func (d *Directory) findKey(ctx context.Context, q question) (*answer, error) {
	if keylog.Ambiguous(q.name) { // the question would be about somebody else
		return &answer{missing: &sealmq.Error{Code: sealmq.NoKey, Message: "a name that ends in a suite's name has no keys"}}, nil
	}
	line := "find_key " + q.name
	if q.suite != "" {
		line += " " + string(q.suite)
	}
	f, err := query[keylog.Found](ctx, d.c, "Key: ", line)
	if code := sealmq.CodeOf(err); code == sealmq.NoKey {
		return &answer{missing: err}, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := readShown(*f, q.name, q.suite)
	if err != nil {
		return nil, err
	}
	if s.entry != nil {
		s.owner, s.untrusted = s.entry.Verify(d.cfg.Verifier, q.name, q.now)
	}
	return &answer{shown: s}, nil
}

func (d *Directory) keyLog(ctx context.Context, from, n int64) (*keylog.Page, error) {
	return query[keylog.Page](ctx, d.c, "Key log: ", fmt.Sprintf("key_log %d %d", from, n))
}

// supply fetches the evidence that the judge needs.
func (d *Directory) supply(ctx context.Context, q question, n *need, a *answer) (err error) {
	switch {
	case n.page:
		a.page, err = d.keyLog(ctx, 0, 0)
	case n.log:
		a.log, err = d.readOwner(ctx, a.shown)
	case n.reset != "":
		var f *keylog.FoundReset
		f, err = d.findReset(ctx, q.name, n.reset)
		a.resets = append(a.resets, resetAnswer{n.reset, f})
	default:
		var proof *keylog.Consistency
		proof, err = d.keyProof(ctx, n.proof)
		if a.proofs == nil {
			a.proofs = make(map[sizes]*keylog.Consistency)
		}
		a.proofs[n.proof] = proof
	}
	return err
}

// keyProof asks for a consistency proof; nil if the broker says definitely that its log never
// was so large. Any other refusal decides nothing: it may be another version's, or a passing
// fault.
func (d *Directory) keyProof(ctx context.Context, of sizes) (*keylog.Consistency, error) {
	proof, err := query[keylog.Consistency](ctx, d.c, "Key proof: ", fmt.Sprintf("key_proof %d %d", of.from, of.to))
	if refused, ok := errors.AsType[*sealmq.Error](err); ok && (refused.Message == keylog.ErrSize(of.from).Error() || refused.Message == keylog.ErrSize(of.to).Error()) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("compare two states of the key directory: %w", err)
	}
	return proof, nil
}

// findReset asks for the latest reset of a key; nil if there was none.
func (d *Directory) findReset(ctx context.Context, name, slot string) (*keylog.FoundReset, error) {
	suite := slot
	if slot == bareSlot {
		suite = keylog.Unproven
	}
	f, err := query[keylog.FoundReset](ctx, d.c, "Reset: ", "find_reset "+name+" "+suite)
	if code := sealmq.CodeOf(err); code == sealmq.NoKey || code == sealmq.Unsupported {
		return nil, nil
	}
	return f, err
}

func (d *Directory) putKey(ctx context.Context, entry []byte, suite seal.Suite) error {
	_, err := ask(ctx, d.c, "put_key "+string(suite)+" "+base64.StdEncoding.EncodeToString(entry), "Key stored ")
	return err
}

// resetKey returns the places of the resets in the log, as the broker says them.
func resetKey(ctx context.Context, c Asker, name string, suite seal.Suite) (records []int64, err error) {
	line := "reset_key " + name
	if suite != "" {
		line += " " + string(suite)
	}
	rest, err := ask(ctx, c, line, "Key reset ")
	if err != nil {
		return nil, err
	}
	for word := range strings.FieldsSeq(rest) {
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return nil, errors.New("the broker answered reset_key without a number")
		}
		records = append(records, n)
	}
	return records, nil
}
