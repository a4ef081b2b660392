package pipeline

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
)

// sealedContent is what an envelope holds. It repeats what the item says in clear, so that
// an item whose clear part was changed does not open.
type sealedContent struct {
	Content
	ClientID  string    `json:"client_id"`
	ClientKey string    `json:"client_key,omitempty"`
	Domain    string    `json:"domain"`
	QueuedAt  time.Time `json:"queued_at"`
}

// SealItem seals a content into an item whose other fields are set. The sealer's receiver
// must be the main server. QueuedAt is cut to microseconds.
func SealItem(s *seal.Sealer, it *Item, c Content) error {
	if it.Domain == "" {
		it.Domain = DefaultDomain
	}
	it.QueuedAt = it.QueuedAt.UTC().Truncate(time.Microsecond)
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // metadata that its proxy has measured must not become larger
	if err := e.Encode(sealedContent{c, it.ClientID, it.ClientKey, it.Domain, it.QueuedAt}); err != nil {
		return err
	}
	envelope, err := s.Seal(seal.Content{ID: it.MessageID, Exchange: QueueName, Body: body.Bytes()})
	if err != nil {
		return err
	}
	it.Enc, it.Sealed = EncHPKE, envelope
	return nil
}

// OpenItem opens an item that a proxy sealed, and says which one did. The error wraps ErrMalformed or is one of
// package seal, whose kind says whether the item is to blame or what is around it. The caller
// must have checked that the item is not in clear.
func OpenItem(o *seal.Opener, it *Item) (c Content, proxy string, err error) {
	m, err := o.Open(it.Sealed, seal.Expect{ID: it.MessageID, Exchange: QueueName})
	if err != nil {
		return Content{}, "", err
	}
	if role := m.Sender.Role; role != sealmq.RoleProxy {
		return Content{}, "", fmt.Errorf("%w: the item was sealed by a certificate of the role %q; only a proxy's counts", ErrMalformed, role)
	}
	var sealed sealedContent
	if err := json.Unmarshal(m.Text, &sealed); err != nil {
		return Content{}, "", fmt.Errorf("%w: its content is not readable", ErrMalformed)
	}
	if sealed.ClientID != it.ClientID || sealed.ClientKey != it.ClientKey || sealed.Domain != it.Domain || !sealed.QueuedAt.Equal(it.QueuedAt) {
		return Content{}, "", fmt.Errorf("%w: its clear part was changed after it was sealed", ErrMalformed)
	}
	return sealed.Content, m.Sender.ID, nil
}
