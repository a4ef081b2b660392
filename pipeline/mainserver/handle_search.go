package mainserver

import (
	"context"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/pipeline/brokerview"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/trust"
)

const (
	// maxFound bounds what a search gives of a kind.
	maxFound = 10
	// minPart is the length of the shortest beginning of a serial number or fingerprint.
	minPart = 4
)

// Search implements mainapi.StrictServerInterface.
func (h *handler) Search(ctx context.Context, r mainapi.SearchRequestObject) (mainapi.SearchResponseObject, error) {
	q := strings.TrimSpace(r.Body.Q)
	if q == "" {
		return nil, invalid("q", "The text to search for is empty")
	}
	found := mainapi.Found{Messages: []mainapi.Message{}, Clients: []mainapi.ClientInfo{}, Certificates: []mainapi.Certificate{}, Queues: []string{}, Exact: []mainapi.FoundKind{}, More: []mainapi.FoundKind{}}
	looks := []func(context.Context, string, *mainapi.Found) error{h.findMessages, h.findClients, h.findCertificates, h.findQueues}
	if !sightOf(ctx).all {
		looks = looks[:1]
	}
	for _, look := range looks {
		if err := look(ctx, q, &found); err != nil {
			return nil, err
		}
	}
	return mainapi.Search200JSONResponse(found), nil
}

// cut bounds a list, and notes whether there is more of its kind.
func cut[T any](list []T, kind mainapi.FoundKind, f *mainapi.Found) []T {
	if len(list) > maxFound {
		f.More = append(f.More, kind)
		list = list[:maxFound]
	}
	return list
}

// findMessages looks for a number, an id and a client's own key. What matches as a whole comes
// first.
func (h *handler) findMessages(ctx context.Context, q string, f *mainapi.Found) error {
	may := sightOf(ctx)
	if may.client == "" && !may.all {
		return nil
	}
	ways := []records.Filter{{ClientKey: q}}
	if number, err := normalNumber(q); err == nil {
		ways = append(ways, records.Filter{Number: number})
	}
	exact := len(ways)
	if len(q) >= records.MinPrefix {
		ways = append(ways, records.Filter{IDPrefix: q})
	}
	seen := make(map[int64]bool)
	for i, w := range ways {
		w.Client, w.Limit = may.client, maxFound+1
		page, err := h.cfg.Store.List(ctx, w)
		if err != nil {
			return err
		}
		if w.Number != "" && len(page.Records) > 0 {
			f.NumberToken = h.cfg.Store.NumberToken(w.Number)
		}
		for j := range page.Records {
			r := &page.Records[j]
			if seen[r.RowID] {
				continue
			}
			seen[r.RowID] = true
			at := len(f.Messages)
			if i < exact || r.ID == q {
				at = len(f.Exact) // of messages, so far
				f.Exact = append(f.Exact, mainapi.FoundKindMessages)
			}
			f.Messages = slices.Insert(f.Messages, at, messageOf(r))
		}
	}
	f.Messages = cut(f.Messages, mainapi.FoundKindMessages, f)
	return nil
}

func (h *handler) findClients(ctx context.Context, q string, f *mainapi.Found) error {
	list, err := h.cfg.Store.Clients(ctx, records.ClientFilter{Prefix: q, Limit: maxFound + 1})
	if err != nil {
		return err
	}
	for _, c := range cut(list, mainapi.FoundKindClients, f) {
		if c.Name == q { // which sorts before longer names
			f.Exact = append(f.Exact, mainapi.FoundKindClients)
		}
		f.Clients = append(f.Clients, h.clientInfo(&c))
	}
	return nil
}

func (h *handler) findCertificates(_ context.Context, q string, f *mainapi.Found) error {
	if p := "sha256:"; len(q) > len(p) && strings.EqualFold(q[:len(p)], p) {
		q = q[len(p):]
	}
	serial, fingerprint := trust.SerialForm(q), trust.HexForm(q)
	if len(serial) < minPart || strings.Trim(fingerprint, "0123456789abcdef") != "" {
		return nil
	}
	history, err := h.cfg.Authority.History()
	if err != nil {
		return err
	}
	var list []ca.Issued
	for i := range history {
		c := &history[i]
		switch {
		case c.Serial == serial || c.Fingerprint == fingerprint:
			list = slices.Insert(list, 0, *c)
			f.Exact = append(f.Exact, mainapi.FoundKindCertificates)
		case strings.HasPrefix(c.Serial, serial) || strings.HasPrefix(c.Fingerprint, fingerprint):
			if len(list) <= maxFound {
				list = append(list, *c)
			}
		}
	}
	for _, c := range cut(list, mainapi.FoundKindCertificates, f) {
		f.Certificates = append(f.Certificates, h.certificate(&c))
	}
	return nil
}

// maxQueuesSeen bounds the queues among which the one with the very name is put first.
const maxQueuesSeen = 500

// findQueues finds no queue while the broker is away.
func (h *handler) findQueues(ctx context.Context, q string, f *mainapi.Found) error {
	if h.cfg.Broker == nil {
		return nil
	}
	list, err := h.cfg.Broker.Queues(ctx, brokerview.Filter{Search: q, Page: brokerview.Page{Limit: maxQueuesSeen}})
	if err != nil {
		h.cfg.Log.Debug("a search has not seen the broker's queues", "error", err)
		return nil
	}
	var names []string
	for _, queue := range list.Items {
		switch {
		case queue.Name == q:
			names = slices.Insert(names, 0, q)
			f.Exact = append(f.Exact, mainapi.FoundKindQueues)
		case strings.HasPrefix(queue.Name, q):
			names = append(names, queue.Name)
		}
	}
	f.Queues = append(f.Queues, cut(names, mainapi.FoundKindQueues, f)...)
	return nil
}
