package portal

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
)

// The pages about the broker's connections and its key directory.
var connectionPages = []page{
	{path: "/admin/connections", title: "Connections", nav: "Connections", icon: "connections", who: staff, show: showConnections},
	{path: "/admin/connections/{id}/disconnect", title: "Disconnect", up: &link{"Connections", "/admin/connections"}, who: admins, show: showDisconnect, do: disconnect},
	{path: "/admin/keys", title: "Key directory", nav: "Key directory", who: staff, show: showKeys},
}

type connectionRow struct {
	ID, Client, Role, Address, Protocol, Prefetch string
	Since                                         time.Time
	Unacked                                       int64
	Commands, In, Out                             string
	Consumes                                      []link
	More                                          int
	End                                           string // empty for those who may not
}

// shownQueues is how many queues of a consumer a row shows.
const shownQueues = 3

func (v *visit) connectionRow(c *mainapi.BrokerConnection) connectionRow {
	r := connectionRow{ID: strconv.FormatInt(c.ID, 10), Client: sealmq.Escape(c.Client), Role: c.Role, Address: c.Address, Protocol: cmp.Or(protocolNames[c.Protocol], c.Protocol), Since: c.Since, Unacked: c.Unacked,
		Prefetch: "of its queues", Commands: rateText(c.CommandsPerSecond), In: byteSize(int64(c.InBytesPerSecond)), Out: byteSize(int64(c.OutBytesPerSecond))}
	if c.Prefetch > 0 {
		r.Prefetch = number(c.Prefetch)
	}
	for _, q := range c.Consumes[:min(len(c.Consumes), shownQueues)] {
		r.Consumes = append(r.Consumes, link{sealmq.Escape(q), v.queueLink("show", q)})
	}
	r.More = len(c.Consumes) - len(r.Consumes)
	if v.may(admins) {
		r.End = v.portal.url("/admin/connections", r.ID, "disconnect") + "?" + url.Values{"client": {c.Client}}.Encode()
	}
	return r
}

var protocolNames = map[string]string{"": "not known yet", "text": "line protocol"}

func showConnections(v *visit) error {
	q := v.r.URL.Query()
	r, err := v.api.ListBrokerConnectionsWithResponse(v.ctx, &mainapi.ListBrokerConnectionsParams{Search: q.Get("search"), Limit: pageSize, Cursor: q.Get("cursor")})
	if err != nil {
		return err
	}
	view := listView[connectionRow]{AsOf: r.JSON200.AsOf, Self: v.self(), Rows: rows(r.JSON200.Items, v.connectionRow), Pager: pagerOf(q, r.JSON200.NextCursor),
		Filters: v.searchFilter("/admin/connections", "Client, address or queue", plural(r.JSON200.Total, "connection")),
		Empty:   empty{Title: "No client is connected over the network", Text: "Parts of this node that run in one process with the broker need no connection. Connect as an administrator:", Command: "sealmq status"}}
	if q.Get("search") != "" {
		view.Empty = empty{Title: "No connection matches", Text: "Try a shorter part of the client's name."}
	}
	return v.render("connections", view)
}

func showDisconnect(v *visit) error {
	id, err := v.id("id")
	if err != nil {
		return err
	}
	who := strings.TrimSpace(v.r.URL.Query().Get("client"))
	title := "Disconnect connection " + number(id)
	if who != "" {
		title = "Disconnect " + sealmq.Escape(who)
	}
	return v.render("danger", dangerView{Title: title, Text: []string{
		"Closes the connection now. Messages that it holds become available to others.",
		"Its client may connect again at once. To keep it out, revoke its certificate."},
		Form: form{Action: v.portal.url("/admin/connections", strconv.FormatInt(id, 10), "disconnect"), Submit: "Disconnect", Danger: true, Cancel: v.portal.url("/admin/connections"), Fields: []field{
			{Name: "reason", Label: "Reason", Hint: "For the audit log. It may be empty.", Max: 200, Focus: true}}}})
}

func disconnect(v *visit) error {
	id, err := v.id("id")
	if err != nil {
		return err
	}
	_, err = v.api.DisconnectBrokerConnectionWithResponse(v.ctx, id, mainapi.DisconnectBrokerConnectionJSONRequestBody{Reason: v.r.FormValue("reason")})
	return v.doneUnless(err, "/admin/connections", "The connection is closed.")
}

type keyRow struct {
	Client, Suite, Fingerprint, Entry string
	State                             state
	Since                             time.Time
}

func showKeys(v *visit) error {
	q := v.r.URL.Query()
	r, err := v.api.ListBrokerKeysWithResponse(v.ctx, &mainapi.ListBrokerKeysParams{Search: q.Get("search"), Limit: pageSize, Cursor: q.Get("cursor")})
	if err != nil {
		return err
	}
	view := listView[keyRow]{Rows: rows(r.JSON200.Items, keyRowOf), Pager: pagerOf(q, r.JSON200.NextCursor), Filters: v.searchFilter("/admin/keys", "Client's name begins with", ""),
		Empty: empty{Title: "No key is published yet", Text: "Receivers publish the keys that senders seal for. Publish one:", Command: "sealmq key publish --as NAME"}}
	if q.Get("search") != "" {
		view.Empty = empty{Title: "No key of such a name", Text: "Names are compared from their beginning, in the given case."}
	}
	return v.render("keys", view)
}

func keyRowOf(k *mainapi.BrokerKey) keyRow {
	row := keyRow{Client: sealmq.Escape(k.Client), Suite: k.Suite, Fingerprint: k.Fingerprint, State: state{"good", "Signed by its owner"}, Entry: number(k.Entry), Since: k.Since}
	if !k.Proven {
		row.Suite, row.Entry, row.State = "32 bytes", "", state{"warn", "Unproven"}
	} else if k.Record < 0 {
		row.State = state{"warn", "Not in the log yet"}
	}
	return row
}
