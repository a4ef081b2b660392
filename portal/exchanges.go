package portal

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// The pages about the broker's exchanges.
var exchangePages = []page{
	{path: "/admin/exchanges", title: "Exchanges", nav: "Exchanges", who: staff, show: showExchanges},
	{path: "/admin/exchanges/show", title: "Exchange", up: &link{"Exchanges", "/admin/exchanges"}, who: staff, show: named(showExchange)},
}

type exchangeRow struct {
	Name, Link, Kind, Owner string
	Bindings                int
}

func (v *visit) exchangeLink(name string) string {
	return v.portal.url("/admin/exchanges/show") + "?" + url.Values{"name": {name}}.Encode()
}

func (v *visit) exchangeRow(x *mainapi.BrokerExchange) exchangeRow {
	return exchangeRow{Name: sealmq.Escape(x.Name), Link: v.exchangeLink(x.Name), Kind: string(x.Kind), Owner: x.Owner, Bindings: x.Bindings}
}

func showExchanges(v *visit) error {
	q := v.r.URL.Query()
	r, err := v.api.ListBrokerExchangesWithResponse(v.ctx, &mainapi.ListBrokerExchangesParams{Search: q.Get("search"), Limit: pageSize, Cursor: q.Get("cursor")})
	if err != nil {
		return err
	}
	view := listView[exchangeRow]{Rows: rows(r.JSON200.Items, v.exchangeRow), Pager: pagerOf(q, r.JSON200.NextCursor),
		Filters: v.searchFilter("/admin/exchanges", "Name", plural(r.JSON200.Total, "exchange")),
		Empty:   empty{Title: "There are no exchanges yet", Text: "An exchange sends messages to the queues that are bound to it. Bind a queue, and it is made:", Command: "sealmq bind results clinic results.blood"}}
	if q.Get("search") != "" {
		view.Empty = empty{Title: "No exchange matches", Text: "Try a shorter part of the name."}
	}
	return v.render("exchanges", view)
}

type exchangeView struct {
	Row      exchangeRow
	Rule     string
	Drawing  *drawing
	Bindings []bindingRow
	More     int
	Empty    *empty
}

// rules say how the kinds of exchanges route.
var rules = map[mainapi.BrokerExchangeKind]string{
	mainapi.BrokerExchangeKindDirect: "A message goes to the queues that are bound with exactly its routing key.",
	mainapi.BrokerExchangeKindFanout: "A message goes to every bound queue, whatever its routing key is.",
	mainapi.BrokerExchangeKindTopic:  "A message goes to the queues whose pattern its routing key matches: * is one word, # any number of words, and words end at dots.",
}

func showExchange(v *visit) error {
	name := v.r.URL.Query().Get("name")
	r, err := v.api.GetBrokerExchangeWithResponse(v.ctx, &mainapi.GetBrokerExchangeParams{Name: name})
	if err != nil {
		return err
	}
	x := r.JSON200.Exchange
	v.title = sealmq.Escape(x.Name)
	view := exchangeView{Row: v.exchangeRow(&x), Rule: rules[x.Kind], Bindings: rows(r.JSON200.Bindings, v.bindingRow), More: r.JSON200.MoreBindings}
	if len(view.Bindings) == 0 {
		view.Empty = &empty{Title: "No queue is bound", Text: "Messages that are published here are refused, so that none is lost in silence. Bind a queue:", Command: "sealmq bind QUEUE " + shellWord(name) + " KEY"}
	} else {
		view.Drawing = draw(view.Row.Name, view.Bindings, x.Bindings)
	}
	return v.render("exchange", view)
}

// A drawing shows an exchange at the left, its queues at the right, and the keys between.
type drawing struct {
	Height, Middle int
	Name           string // of the exchange, short
	Lines          []drawnQueue
	Rest           string // what is folded; empty if all is drawn
	RestY          int
	Text           string // for those who do not see it
}

type drawnQueue struct {
	Queue, Key, Full, Link string
	Y, Text                int
}

// Measures of a drawing.
const (
	drawnQueues = 12 // the rest is folded
	lineHeight  = 40
	nameRunes   = 30
	keyRunes    = 24
)

// draw draws bindings, those of one queue as one line. all is how many bindings there are.
func draw(exchange string, bindings []bindingRow, all int) *drawing {
	d := &drawing{Name: short(exchange, nameRunes)}
	var queues []string
	keys, links := make(map[string][]string), make(map[string]string)
	for _, b := range bindings {
		if keys[b.Queue] == nil {
			queues = append(queues, b.Queue)
		}
		keys[b.Queue], links[b.Queue] = append(keys[b.Queue], b.Key), b.QueueLink
	}
	drawn := 0
	for i, q := range queues[:min(len(queues), drawnQueues)] {
		key := short(keys[q][0], keyRunes)
		if n := len(keys[q]); n > 1 {
			key = short(keys[q][0], keyRunes-5) + " +" + number(n-1)
		}
		drawn += len(keys[q])
		y := lineHeight/2 + i*lineHeight
		d.Lines = append(d.Lines, drawnQueue{Queue: short(q, nameRunes), Key: key, Full: q + ": " + strings.Join(keys[q][:min(len(keys[q]), 20)], ", "), Link: links[q], Y: y, Text: y + 4})
	}
	rows := len(d.Lines)
	if left := all - drawn; left > 0 {
		d.Rest = plural(left, "more binding") + " in the list below"
		rows++
		d.RestY = lineHeight/2 + (rows-1)*lineHeight + 4
	}
	d.Height = rows * lineHeight
	d.Middle = len(d.Lines) * lineHeight / 2
	d.Text = "The exchange " + exchange + " sends to " + plural(len(queues), "queue") + " by " + plural(all, "binding") + ". The list below has them all."
	return d
}

// short cuts a text after a number of characters.
func short(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}
