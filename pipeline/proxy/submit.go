package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
)

// submit answers POST /submit and its aliases.
func (p *Proxy) submit(w http.ResponseWriter, r *http.Request) {
	c, now, err := p.admit(w, r)
	if err != nil {
		httpkit.WriteError(w, r, err)
		return
	}
	m := new(message)
	if err := p.readMessage(r, m); err != nil {
		httpkit.WriteError(w, r, err)
		return
	}
	it, err := p.seal(m, c, p.registeredDomain(r, c), now)
	if err != nil {
		httpkit.WriteError(w, r, err)
		return
	}
	items := []pipeline.Item{it}
	results, err := p.enqueuer.enqueue(items)
	if err == nil {
		err = outcome(results[0])
	}
	if err != nil {
		httpkit.WriteError(w, r, err)
		return
	}
	duplicate := results[0].Outcome == pipeline.Duplicate
	position := p.counts.position(b2i(!duplicate))
	if !duplicate {
		p.metrics.enqueued.Inc()
	}
	p.register.add(items...) // a repeat too: nobody registers a message whose first answer was lost
	httpkit.WriteBytes(w, "application/json", http.StatusAccepted, appendAccepted(make([]byte, 0, 256), &it, position, duplicate))
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// admit makes the checks that need no body: is the proxy itself in order, and may this
// client submit now? The caller that it returns has the client's id as its ID.
func (p *Proxy) admit(w http.ResponseWriter, r *http.Request) (httpkit.Caller, time.Time, error) {
	now := p.cfg.Now()
	c, _ := httpkit.CallerOf(r.Context())
	if err := p.checkOwn(now); err != nil {
		return c, now, &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "This proxy takes no messages: " + err.Error()}
	}
	if c.Role == sealmq.RoleMonitor {
		return c, now, httpkit.Errorf(httpkit.CodeAuthorization, "A certificate of the role monitor reads metrics and nothing else")
	}
	if c.ID = p.clientID(c); len(c.ID) > sealmq.MaxNameBytes {
		return c, now, httpkit.Errorf(httpkit.CodeAuthorization, "The client's name is too long")
	}
	q := p.limiter.Take(c.ID, 1, now)
	q.SetHeaders(w.Header())
	return c, now, q.Err("messages")
}

// readMessage reads and checks a body with one message.
func (p *Proxy) readMessage(r *http.Request, m *message) error {
	if err := p.readBody(r, func(d *jsontext.Decoder) error { return decodeMessage(d, m) }); err != nil {
		return err
	}
	if err := m.takeHeaderKey(r); err != nil {
		return err
	}
	if m.check(p.cfg.MinNumber, p.cfg.MaxBody); len(m.fields) > 0 {
		return httpkit.Invalid(m.fields...)
	}
	return nil
}

// readBody has the body of a request decoded. What decode keeps of it, it copies.
func (p *Proxy) readBody(r *http.Request, decode func(*jsontext.Decoder) error) error {
	b := p.buffers.Get().(*buffer)
	defer func() {
		b.reset(nil)
		if cap(b.body) <= maxKeptBody {
			p.buffers.Put(b)
		}
	}()
	body, err := httpkit.ReadBody(r, b.body)
	b.body = body
	if err != nil {
		return bodyError(err)
	}
	return decode(b.reset(body))
}

// bodyError is the error for a body that did not arrive: its client has gone or is slow.
func bodyError(err error) error {
	var tooLarge *http.MaxBytesError
	var noRoom *httpkit.Error
	if errors.As(err, &tooLarge) || errors.As(err, &noRoom) {
		return err
	}
	return &httpkit.Error{Code: httpkit.CodeValidation, Status: http.StatusBadRequest, Message: "The body did not arrive in full", Close: true, Err: err}
}

// takeHeaderKey takes the client's own key from the header Idempotency-Key.
func (m *message) takeHeaderKey(r *http.Request) error {
	list := r.Header["Idempotency-Key"]
	if len(list) == 0 {
		return nil
	}
	loc := []any{"header", "Idempotency-Key"}
	if len(list) > 1 {
		return httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: loc, Msg: "Idempotency-Key must be given once"})
	}
	if msg := checkKey(list[0]); msg != "" {
		return httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: loc, Msg: "Idempotency-Key " + msg})
	}
	if m.key != "" && m.key != list[0] {
		return httpkit.Invalid(httpkit.Field{Type: "value_error", Loc: loc, Msg: "Idempotency-Key and message_id differ; give one of them"})
	}
	m.key = list[0]
	return nil
}

// seal makes the item of a message that has passed its checks.
func (p *Proxy) seal(m *message, c httpkit.Caller, domain string, now time.Time) (pipeline.Item, error) {
	it := pipeline.Item{ClientID: c.ID, ClientKey: m.key, Domain: pipeline.DefaultDomain, QueuedAt: now.UTC().Truncate(time.Microsecond)}
	switch {
	case domain != "" && m.hasDomain && m.domain != domain:
		return it, httpkit.Errorf(httpkit.CodeAuthorization, "This client is registered for another domain")
	case domain != "":
		it.Domain = domain
	case m.hasDomain:
		it.Domain = m.domain
	}
	s, idKey := p.keys.current.Load(), p.keys.idKey.Load()
	if s == nil || idKey == nil {
		return it, &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "This proxy has no key of the main server yet; try again", RetryAfter: time.Second}
	}
	if m.key != "" {
		it.MessageID = pipeline.MessageIDFor(*idKey, it.ClientID, m.key)
	} else {
		it.MessageID = pipeline.NewMessageID(now)
	}
	content := pipeline.Content{SenderNumber: m.number, MessageBody: m.body, Metadata: m.said()}
	it.Digest = pipeline.DigestOf(*idKey, &it, &content)
	var err error
	if content.Metadata, err = m.sealedMetadata(&it); err != nil {
		return it, err
	}
	if err := pipeline.SealItem(s.Sealer, &it, content); err != nil {
		return it, &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "This proxy cannot seal messages now", Err: err}
	}
	return it, nil
}

// registeredDomain is the domain in a certificate of our own authority (its organisational
// unit), or empty if there is none but the default.
func (p *Proxy) registeredDomain(r *http.Request, c httpkit.Caller) string {
	if c.Source != httpkit.ByCertificate || !p.cfg.OwnIssuer(c.Issuer) || r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	units := r.TLS.PeerCertificates[0].Subject.OrganizationalUnit
	if len(units) != 1 || units[0] == pipeline.DefaultDomain || pipeline.CheckDomain(units[0]) != nil {
		return ""
	}
	return units[0]
}

// textUnknown is for a message that the queue may have or not.
const textUnknown = "It is not known whether the message was queued. Repeat it with the same key; without a key (Idempotency-Key) it may be queued twice"

// outcome is the error for what the queue did with an item, or nil if it is stored. That the
// queue refuses the proxy is none of the client's faults.
func outcome(r pipeline.EnqueueResult) error {
	switch r.Outcome {
	case pipeline.Stored, pipeline.Duplicate:
		return nil
	case pipeline.Conflict:
		return httpkit.Errorf(httpkit.CodeConflict, "This key was used for a message with another content")
	case pipeline.Unknown:
		return &httpkit.Error{Code: httpkit.CodeUnavailable, Message: textUnknown, RetryAfter: time.Second, Err: r.Err}
	}
	if code := sealmq.CodeOf(r.Err); code == sealmq.TooLarge || code.Info().Retry {
		return r.Err
	}
	return &httpkit.Error{Code: httpkit.CodeUnavailable, Message: "The queue has not taken the message", Err: r.Err}
}

// appendAccepted is the answer 202 (specification 2.1).
func appendAccepted(b []byte, it *pipeline.Item, position int64, duplicate bool) []byte {
	b = append(append(b, `{"message_id":"`...), it.MessageID...)
	b = append(b, `","status":"queued","client_id":`...)
	b, _ = jsontext.AppendQuote(b, it.ClientID)
	b = append(b, `,"queued_at":"`...)
	b = it.QueuedAt.AppendFormat(b, httpkit.TimeLayout)
	b = strconv.AppendInt(append(b, `","position":`...), position, 10)
	if duplicate {
		b = append(b, `,"duplicate":true`...)
	}
	if it.ClientKey != "" {
		b, _ = jsontext.AppendQuote(append(b, `,"client_key":`...), it.ClientKey)
	}
	return append(b, "}\n"...)
}
