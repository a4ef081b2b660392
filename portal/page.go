package portal

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// The roles of accounts. The API decides what each may do; the portal only leaves out what
// would be refused.
const (
	admin       = sealmq.RoleAdmin
	operator    = sealmq.Role("operator")
	userManager = sealmq.Role("user_manager")
	user        = sealmq.Role("user")
)

// Whose pages these are.
var (
	everybody = []sealmq.Role{admin, operator, userManager, user}
	staff     = []sealmq.Role{admin, operator}
	admins    = []sealmq.Role{admin}
	managers  = []sealmq.Role{admin, userManager}
)

// A page is one path of the portal.
type page struct {
	// path is a pattern of http.ServeMux without method and prefix.
	path  string
	title string
	// nav is its name in the navigation; empty if it does not stand there.
	nav string
	// up is the page above, to which the head leads. A handler sets v.crumb if that depends on what it
	// shows.
	up *link
	// icon is a name in icons; pages with one stand above the administration.
	icon string
	// who may open it; nil is everybody, also without a login.
	who []sealmq.Role
	// show answers GET and do answers POST. One may be nil.
	show, do func(*visit) error
	// stream says that its answer does not end by itself, and long that it may take its time.
	stream, long bool
	// always lets accounts in that must change their password first.
	always bool
}

// blank shows a form as it is before anybody has filled it in.
func blank(show func(*visit, fieldErrors) error) func(*visit) error {
	return func(v *visit) error { return show(v, nil) }
}

// named shows what the query names. Without a name it leads to the page above.
func named(show func(*visit) error) func(*visit) error {
	return func(v *visit) error {
		if v.r.URL.Query().Get("name") == "" {
			return v.redirect(v.page.up.Path)
		}
		return show(v)
	}
}

// Paths are the patterns of all pages that can be looked at. Those for everybody are open.
func (p *Portal) Paths() (open, others []string) {
	for _, pg := range p.table {
		switch {
		case pg.show == nil || pg.stream:
		case pg.who == nil:
			open = append(open, pg.path)
		default:
			others = append(others, pg.path)
		}
	}
	return open, others
}

// below reports whether a path is the page's own, or one below it.
func (pg *page) below(path string) bool {
	return path == pg.path || strings.HasPrefix(path, pg.path+"/")
}

// pageTimeout bounds the calls that a page makes.
const pageTimeout = 20 * time.Second

// handler does before and after a page's own function what all pages need.
func (p *Portal) handler(pg *page, do func(*visit) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if pg.stream || pg.long {
			defer context.AfterFunc(httpkit.Stopping(ctx), cancel)() // a server that stops waits for its answers
		} else {
			ctx, cancel = context.WithTimeout(ctx, pageTimeout)
			defer cancel()
		}
		v, err := p.visit(ctx, w, r, pg)
		if err == nil {
			err = v.admit()
		}
		answered := false
		if err == nil {
			answered, err = v.confirm()
		}
		if err == nil && !answered {
			err = do(v)
		}
		if err != nil {
			v.fail(err)
		}
	})
}

// navItem is a link of the navigation.
type navItem struct {
	Name, Path, Icon string
	Current          bool
}

// navigation is what a reader finds at the side: the main pages, and the administration.
type navigation struct {
	Main, Admin []navItem
	// Bar are those that have a place at the foot of a phone, and Rest the others.
	Bar, Rest   []navItem
	RestCurrent bool
}

// barItems is how many links stand at the foot of a phone, beside the one to the rest.
const barItems = 4

// navigation has each page of the table that a role may open.
func (p *Portal) navigation(role sealmq.Role, current *page) (n navigation) {
	for i := range p.table {
		pg := &p.table[i]
		if pg.nav == "" || !slices.Contains(pg.who, role) {
			continue
		}
		item := navItem{Name: pg.nav, Path: pg.path, Icon: pg.icon, Current: current != nil && pg.below(current.path)}
		if pg.icon != "" {
			n.Main = append(n.Main, item)
		} else {
			n.Admin = append(n.Admin, item)
		}
	}
	n.Bar = n.Main[:min(barItems, len(n.Main))]
	n.Rest = slices.Concat(n.Main[len(n.Bar):], n.Admin)
	n.RestCurrent = slices.ContainsFunc(n.Rest, func(i navItem) bool { return i.Current })
	return n
}

// start is the page where a role begins.
func (p *Portal) start(role sealmq.Role) string {
	if role == userManager { // who looks after accounts, and may have no client
		return "/admin/users"
	}
	if main := p.navigation(role, nil).Main; len(main) > 0 {
		return main[0].Path
	}
	return "/profile" // a role that only a newer main server knows
}
