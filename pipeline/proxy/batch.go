package proxy

import (
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sealmq/sealmq/api/proxyapi"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline"
)

// submitBatch answers POST /api/v1/messages/batch and its alias.
func (p *Proxy) submitBatch(w http.ResponseWriter, r *http.Request) {
	c, now, err := p.admit(w, r)
	var list []message
	if err == nil {
		err = p.readBody(r, func(d *jsontext.Decoder) (err error) {
			list, err = decodeBatch(d)
			return err
		})
	}
	if err == nil && len(list) > 1 {
		q := p.limiter.Take(c.ID, len(list)-1, now)
		q.SetHeaders(w.Header())
		err = q.Err("messages")
	}
	if err != nil {
		httpkit.WriteError(w, r, err)
		return
	}
	out := proxyapi.SubmissionResults{Results: make([]proxyapi.SubmissionResult, len(list))}
	domain := p.registeredDomain(r, c)
	var items []pipeline.Item
	var places []int // of the items in the answer
	for i := range list {
		m := &list[i]
		if m.check(p.cfg.MinNumber, p.cfg.MaxBody); len(m.fields) > 0 {
			out.Results[i] = p.invalid(m)
			continue
		}
		it, err := p.seal(m, c, domain, now)
		if err != nil && httpkit.ErrorOf(err).Code == httpkit.CodeAuthorization {
			out.Results[i] = p.failed(proxyapi.SubmissionResultStatusRefused, err)
			continue
		}
		if err != nil {
			httpkit.WriteError(w, r, err)
			return
		}
		items, places = append(items, it), append(places, i)
	}
	if len(items) > 0 {
		results, err := p.enqueuer.enqueue(items)
		if err != nil {
			httpkit.WriteError(w, r, err)
			return
		}
		if err := failure(results); err != nil {
			httpkit.WriteError(w, r, err)
			return
		}
		p.place(&out, items, places, results)
	}
	httpkit.WriteJSON(w, http.StatusOK, out)
}

// failure is the error for all of a batch, if the queue did not answer for any of it.
func failure(results []pipeline.EnqueueResult) error {
	var failed error
	for _, res := range results {
		err := outcome(res)
		if err == nil || httpkit.ErrorOf(err).Code != httpkit.CodeUnavailable {
			return nil
		}
		if failed == nil || res.Outcome == pipeline.Unknown {
			failed = err
		}
	}
	return failed
}

// place writes the queue's results into the answer.
func (p *Proxy) place(out *proxyapi.SubmissionResults, items []pipeline.Item, places []int, results []pipeline.EnqueueResult) {
	accepted, stored := make([]pipeline.Item, 0, len(items)), 0
	for i, res := range results {
		it, entry := &items[i], &out.Results[places[i]]
		if err := outcome(res); err != nil {
			status := proxyapi.SubmissionResultStatusRefused
			switch res.Outcome {
			case pipeline.Conflict:
				status = proxyapi.SubmissionResultStatusConflict
			case pipeline.Unknown:
				status = proxyapi.SubmissionResultStatusUnknown
			}
			*entry = p.failed(status, err)
		} else {
			*entry = proxyapi.SubmissionResult{Status: proxyapi.SubmissionResultStatusQueued, QueuedAt: it.QueuedAt, Duplicate: res.Outcome == pipeline.Duplicate}
			accepted = append(accepted, *it)
			if !entry.Duplicate {
				stored++
			}
		}
		entry.MessageID, entry.ClientKey = it.MessageID, it.ClientKey
	}
	out.Accepted = len(accepted)
	p.counts.position(stored)
	p.metrics.enqueued.Add(float64(stored))
	p.register.add(accepted...)
}

func (p *Proxy) failed(status proxyapi.SubmissionResultStatus, err error) proxyapi.SubmissionResult {
	e := httpkit.ErrorOf(err)
	p.metrics.refused(e)
	return proxyapi.SubmissionResult{Status: status, Detail: e.Message}
}

func (p *Proxy) invalid(m *message) proxyapi.SubmissionResult {
	res := p.failed(proxyapi.SubmissionResultStatusInvalid, httpkit.Invalid(m.fields...))
	for _, f := range m.fields {
		res.Errors = append(res.Errors, proxyapi.FieldProblem{Type: proxyapi.FieldProblemType(f.Type), Loc: f.Loc, Msg: f.Msg})
	}
	return res
}
