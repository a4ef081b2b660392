package mainserver

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/seal"
)

// final are the refusals that are the item's own fault: nothing that an operator can repair
// makes it a good one. What is not here may pass: a key or an authority that is missing, a
// clock that is wrong, a certificate that is too old, a version that is.
var final = []error{pipeline.ErrMalformed, seal.ErrMalformed, seal.ErrChanged, seal.ErrID, seal.ErrRoute, seal.ErrSignature, seal.ErrSender, seal.ErrTime,
	seal.ErrEpoch, seal.ErrTooLarge}

// judge says what an error of pipeline.OpenItem means for the item.
func judge(err error) pipeline.ResultStatus {
	switch {
	case errors.Is(err, seal.ErrRevoked):
		return pipeline.StatusRefused
	case errors.Is(err, seal.ErrFuture):
		return pipeline.StatusUnavailable
	}
	if slices.ContainsFunc(final, func(kind error) bool { return errors.Is(err, kind) }) {
		return pipeline.StatusInvalid
	}
	return pipeline.StatusUnavailable
}

// errLongText says that a text is longer than this main server takes, and not longer than
// another setting would.
var errLongText = errors.New("its text is longer than this main server takes; its limit must not be below the proxies'")

// open returns the message in an item, or the result for an item that is not taken.
func (v *view) open(it *pipeline.Item) (m records.Message, bad *pipeline.Result) {
	c := pipeline.Content{SenderNumber: it.SenderNumber, MessageBody: it.MessageBody, Metadata: it.Metadata}
	status, limit, least := pipeline.StatusInvalid, v.cfg.MaxBody, v.cfg.MinNumber
	var proxy string
	var err error
	switch {
	case it.Enc != "" && it.Enc != pipeline.EncHPKE:
		err = errors.New("the item is sealed in a way that this version does not know")
	case it.Enc != "":
		limit, least = pipeline.MaxBody, pipeline.MinNumber // what its proxy takes is the proxy's
		if c, proxy, err = pipeline.OpenItem(v.cfg.Opener, it); err != nil {
			status = judge(err)
		}
	case !v.cfg.TakeClear:
		err = errors.New("the item is not sealed; main.unsealed in the configuration can let such items in")
	}
	if err == nil {
		err = cmp.Or(pipeline.CheckNumber(c.SenderNumber, least), pipeline.CheckBody(c.MessageBody, limit))
	}
	if err == nil && pipeline.CheckBody(c.MessageBody, v.cfg.MaxBody) != nil { // the proxy has accepted it
		status, err = pipeline.StatusUnavailable, errLongText
	}
	if err != nil {
		if status == pipeline.StatusUnavailable {
			v.trouble.note(kindOf(err), v.cfg.Now())
		}
		v.cfg.Log.Warn("an item was not taken", "message_id", it.MessageID, "client_id", it.ClientID, "status", status, "error", err)
		return m, &pipeline.Result{MessageID: it.MessageID, Status: status, Reason: err.Error()}
	}
	return records.Message{ID: it.MessageID, Client: it.ClientID, ClientKey: it.ClientKey, Domain: it.Domain, Number: c.SenderNumber,
		Body: c.MessageBody, Metadata: c.Metadata, QueuedAt: it.QueuedAt, Sealed: it.Enc != "", Proxy: proxy}, nil
}

// kindOf is an error without what it says of a single item.
func kindOf(err error) string {
	if e, ok := errors.AsType[*seal.Error](err); ok {
		return e.Kind.Error()
	}
	return err.Error()
}

// trouble remembers why items were not taken lately that may be good: an operator has to
// repair something.
type trouble struct {
	mu     sync.Mutex
	reason string
	at     time.Time
}

// troubleAge is longer than a worker waits before it tries an item again.
const troubleAge = 2 * pipeline.RetryInterval

func (t *trouble) note(reason string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reason, t.at = reason, now
}

// current is a sentence for the health, or empty.
func (t *trouble) current(now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reason == "" || now.Sub(t.at) > troubleAge {
		return ""
	}
	return fmt.Sprintf("messages wait in the queue until something is repaired: %s", t.reason)
}
