package sealmq_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// This file inspects the source tree itself: who may import whom and why, and the
// habits that no compiler checks.

const module = "github.com/sealmq/sealmq"

// A layer is a floor of the tree. A package imports packages of lower layers only.
type layer int

const (
	vocabulary layer = iota // words that everybody uses
	ground                  // time, files, records: no messages
	formats                 // contracts and formats: calculations
	dialects                // formats of other programs, in terms of ours
	bases                   // what stands on these: the journal, certificates, the log of keys
	beliefs                 // what stands on certificates: who is believed
	parts                   // each is usable without the others
	ends                    // what puts parts together: protocols, sender and receiver
	program                 // the binary
	tests                   // for tests, which may import anything
)

// Packages of the standard library that a package may not reach, neither by itself nor
// through what it imports: it must run without sockets, or without the system.
const (
	offline = "net net/http crypto/tls database/sql"
	pure    = offline + " os"
)

// A place says where a package is, what it may import besides the standard library, what it
// may not reach, and why.
type place struct {
	pkg   string // its folder; the root is "sealmq"
	layer layer
	// may names packages of this module by their folder, others by the end of their
	// module's path. "*" is everything.
	may     string
	without string
	why     string
}

// places is the table of layers. What it does not allow is refused. If a package needs
// more, change its row, reason included.
var places = []place{
	{"sealmq", vocabulary, "", pure, "the vocabulary is for everybody, so it depends on nobody"},

	{"internal/clock", ground, "", pure, "a seam has no users of its own"},
	{"internal/connlimit", ground, "", "net/http database/sql", "connections are counted alike, whatever is spoken on them"},
	{"internal/changes", ground, "", pure, "waiting is about no subject"},
	{"internal/cached", ground, "x/sync", pure, "a value has its finder from its user"},
	{"internal/vanished", ground, "x/sys", "net/http database/sql", "a peer that has gone is found alike, whatever is spoken with it"},
	{"internal/durable", ground, "x/sys", offline, "files know nothing of messages"},
	{"internal/definition", ground, "", pure, "a definition is bytes"},
	{"internal/brokerproc", ground, "x/sys", offline, "a process is started by its name"},
	{"audit", ground, "sealmq", offline, "every package that acts may record it"},

	{"audit/auditfile", formats, "audit internal/durable", offline, "a file is for nodes; those who only record reach no disk"},

	{"engine", formats, "sealmq", pure, "a contract needs no network, and knows no broker"},
	{"protocol", formats, "sealmq", pure, "a session takes bytes in and gives bytes out; what all protocols share is not about one broker"},
	{"seal/internal/jsonform", ground, "", pure, "JSON is read in one way"},
	{"seal", formats, "sealmq seal/internal/jsonform x/crypto x/sync", pure, "sealing is a calculation: a sealed message travels by any means, and the broker has no part in it"},
	{"api", formats, "yaml/v3", offline, "the truth of the API is a text, and what is read from it"},
	{"internal/logfile", formats, "internal/durable", offline, "lines are texts, and their meaning is the logger's"},
	{"internal/backup", formats, "internal/durable age", offline, "what goes into a backup is known above it"},
	{"internal/framelog", formats, "internal/durable", offline, "frames know nothing of messages"},

	{"seal/ciphermq", dialects, "sealmq seal seal/internal/jsonform x/crypto", pure, "another program's suites are for those who pass them in"},

	{"journal", bases, "internal/clock internal/durable", offline, "the journal knows records, not messages or queues"},
	{"keydir/keylog", bases, "sealmq internal/definition seal seal/ciphermq x/mod", pure, "the broker keeps the log, others check it: neither must carry the other"},
	{"pipeline", bases, "sealmq seal go-json-experiment/json", offline, "the seams know neither a queue nor a database nor a protocol"},
	{"pipeline/accounts", bases, "sealmq golang-jwt/jwt pquerna/otp x/crypto", offline, "who may is decided without a request and without a database"},
	{"pipeline/records/atrest", bases, "internal/durable", offline, "encryption is a calculation: who stores a text, and where, is not its subject"},
	{"mtls", bases, "sealmq internal/clock internal/durable", "net net/http database/sql", "identity is decided before anything is routed, and a node without our authority runs with imported certificates"},

	{"trust", beliefs, "internal/durable keydir/keylog mtls seal x/text", "net net/http database/sql", "whom to believe does not depend on who asks"},

	{"api/proxyapi", parts, "pipeline oapi-codegen/runtime", "database/sql", "a client of the proxy carries no main server"},
	{"api/mainapi", parts, "sealmq pipeline trust oapi-codegen/runtime", "database/sql", "a client of the main server carries no proxy"},
	{"broker", parts, "sealmq audit engine internal/clock internal/definition keydir/keylog seal seal/ciphermq prometheus/client_golang", offline,
		"routing and permissions run without sockets; identity comes in as a value; engines are chosen in cmd/sealmq"},
	{"engine/local", parts, "sealmq engine internal/clock internal/durable journal dchest/siphash prometheus/client_golang", offline,
		"an engine keeps queues: how messages arrive, and permissions, are decided above it"},
	{"ca", parts, "sealmq internal/clock internal/durable mtls seal trust", "net/http database/sql", "an authority signs; how requests reach it is another package's subject"},
	{"listener", parts, "sealmq internal/connlimit internal/vanished mtls protocol prometheus/client_golang", "net/http database/sql", "protocols are chosen in cmd/sealmq, and know what is behind them"},
	{"client", parts, "sealmq internal/changes internal/clock mtls x/sync", "net/http database/sql",
		"a program that uses the client carries no broker and brings its own metrics; messages are sealed or not"},
	{"keydir", parts, "sealmq internal/clock internal/durable keydir/keylog seal seal/ciphermq x/mod x/sync", offline, "a look-up asks over any connection that it is given"},
	{"internal/httpkit", parts, "sealmq internal/cached internal/connlimit mtls prometheus/client_golang go-json-experiment/json x/time", "database/sql", "every HTTPS listener is let in, limited and watched alike, whatever it serves"},
	{"internal/mail", parts, "wneessen/go-mail", "database/sql", "what mails say is their writers' subject"},
	{"internal/metrics", parts, "engine internal/clock internal/connlimit mtls prometheus/client_golang", "database/sql", "what is measured is handed in"},

	{"internal/alert", parts, "internal/clock internal/durable prometheus/client_golang prometheus/client_model", "database/sql", "what is wrong is judged by metrics alone"},

	{"pipeline/worker", parts, "sealmq internal/cached internal/changes internal/clock pipeline prometheus/client_golang", offline, "a worker carries items from a queue to a main server, whatever they are and wherever"},
	{"pipeline/brokerqueue", parts, "sealmq pipeline", offline, "the broker is whatever connection it is given"},
	{"pipeline/redisqueue", parts, "sealmq pipeline go-json-experiment/json prometheus/client_golang redis/go-redis/v9", "database/sql", "a queue elsewhere knows neither roles nor their certificates: the connection's TLS is handed in"},
	{"pipeline/brokerview", parts, "sealmq internal/clock", offline, "the broker is whatever connection it is given"},
	{"pipeline/mainserver", ends, "sealmq api api/mainapi audit audit/auditfile ca internal/backup internal/cached internal/durable internal/httpkit mtls pipeline pipeline/accounts pipeline/brokerview pipeline/records seal trust getkin/kin-openapi prometheus/client_golang", "",
		"it takes in messages however they come, and is where records, authority and queue are administered"},
	{"pipeline/mainclient", ends, "sealmq api/mainapi internal/clock mtls pipeline trust", "database/sql", "a caller has no database"},
	{"pipeline/enroll", ends, "sealmq api/mainapi ca internal/clock internal/durable mtls pipeline", "database/sql", "a machine with a certificate carries no main server"},
	{"pipeline/records", parts, "sealmq internal/clock internal/durable internal/vanished pipeline pipeline/accounts pipeline/records/atrest go-sql-driver/mysql pressly/goose sqlite", "net/http",
		"a store knows rows: how a message came, and who may read it, is decided above it"},

	{"protocol/text", ends, "sealmq broker engine internal/clock keydir/keylog protocol seal seal/ciphermq go-json-experiment/json prometheus/client_golang", pure,
		"parsing and printing are tested byte by byte, and a session starts after the handshake"},
	{"send", ends, "sealmq client internal/changes internal/clock internal/durable internal/framelog keydir seal", "net/http database/sql", "sender and receiver share only the envelope"},
	{"receive", ends, "sealmq client internal/clock internal/durable internal/framelog keydir seal", "net/http database/sql", "sender and receiver share only the envelope"},

	{"pipeline/proxy", ends, "sealmq api api/proxyapi internal/durable internal/httpkit mtls pipeline seal go-json-experiment/json prometheus/client_golang", "database/sql",
		"a proxy has no database, and knows neither the queue's kind nor the way to the main server"},

	{"portal", ends, "sealmq api/mainapi internal/cached internal/httpkit boombuler/barcode prometheus/client_golang", "database/sql", "pages keep nothing and decide nothing: they ask the main server's API"},

	{"cmd/sealmq", program, "*", "", "the only place that knows everything"},
	{"cmd/sealmq/internal/bench", program, "sealmq client internal/clock internal/durable HdrHistogram/hdrhistogram-go x/sync x/sys", "", "load comes over the wire, like everybody's"},
	{"cmd/sealmq/internal/demo", program, "sealmq api/mainapi api/proxyapi ca client internal/brokerproc internal/clock mtls pipeline seal x/sync", "", "the demonstration shows the product as it is"},
	{"cmd/sealmq/internal/envfile", program, "", offline, "reads a text; what its names mean is the configuration's business"},
	{"cmd/sealmq/internal/jsonl", program, "sealmq internal/durable", offline, "an output file knows lines, and nothing of how messages come"},
	{"cmd/sealmq/internal/receiver", program, "cmd/sealmq/internal/jsonl internal/clock receive", "", "what the command does around a receiver"},
	{"cmd/sealmq/internal/sender", program, "sealmq internal/clock send HdrHistogram/hdrhistogram-go", "", "what the command does around a sender"},

	{"engine/enginetest", tests, "*", "", "every engine passes it"},
	{"pipeline/queuetest", tests, "*", "", "every queue of the pipeline passes it"},
	{"portal/browser", tests, "", "", "a browser before the real program"},
	{"internal/testing/program", tests, "", "", "it builds the real program"},
	{"internal/testing/pipelineproc", tests, "ca internal/brokerproc internal/testing/server mtls", "", "it runs the real program"},
	{"internal/testing/crash", tests, "*", "", "it kills the real program"},
	{"internal/testing/fakebroker", tests, "*", "", "a broker that says what a test wants"},
	{"internal/testing/fakeclock", tests, "*", "", "a time that a test drives"},
	{"internal/testing/faultfs", tests, "*", "", "files that fail"},
	{"internal/testing/liar", tests, "*", "", "a broker that lies"},
	{"internal/testing/smtpserver", tests, "*", "", "a mail server that keeps what it gets"},
	{"internal/testing/mariadb", tests, "*", "", "a private database server"},
	{"internal/testing/netns", tests, "*", "", "hosts and a network that loses packets"},
	{"internal/testing/redis", tests, "*", "", "a private server of the queue"},
	{"internal/testing/server", tests, "", "", "the processes of others' servers"},
	{"internal/testing/mutation", tests, "*", "", "a product that is broken"},
	{"internal/testing/testca", tests, "*", "", "fresh certificates"},
	{"internal/testing/testnode", tests, "*", "", "a whole broker"},
	{"internal/testing/transcript", tests, "*", "", "recorded conversations"},
}

// seams are the packages that see disk and time only through interfaces, so that a
// simulation can drive them.
var seams = []string{"journal", "engine/local", "broker", "client", "send", "receive", "keydir", "keydir/keylog", "internal/framelog"}

// sealed lists what these packages must not use of a package, or all but what they may.
var sealed = map[string]func(name string) (why string){
	"time": func(name string) string {
		switch name {
		case "Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep":
			return "time comes from internal/clock"
		}
		return ""
	},
	"os": func(name string) string {
		if strings.HasPrefix(name, "O_") || strings.HasPrefix(name, "Err") || name == "FileMode" {
			return ""
		}
		return "files are reached through internal/durable"
	},
}

// Bounds of the tree.
const (
	maxFileLines     = 500
	maxTestLines     = 700
	maxFunctionLines = 70
)

// goFile is one parsed source file.
type goFile struct {
	path string // with slashes, from the root of the module
	pkg  string // its folder, "" for the root
	test bool
	ast  *ast.File
	set  *token.FileSet
	size int // lines
}

func (f *goFile) imports() (list []string) {
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			list = append(list, p)
		}
	}
	return list
}

// tree is every Go file of the module, for all platforms.
func tree(t *testing.T) []*goFile {
	t.Helper()
	files, err := parsed()
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// parsed is the tree, read once for all tests.
var parsed = sync.OnceValues(func() (files []*goFile, err error) {
	err = filepath.WalkDir(".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || len(d.Name()) > 1 && d.Name()[0] == '.'):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(p, ".go"):
			return nil
		}
		src, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		f := &goFile{path: filepath.ToSlash(p), set: token.NewFileSet(), size: strings.Count(string(src), "\n")}
		f.pkg = strings.TrimPrefix(path.Dir(f.path), ".")
		f.test = strings.HasSuffix(p, "_test.go")
		f.ast, err = parser.ParseFile(f.set, p, src, parser.ParseComments)
		files = append(files, f)
		return err
	})
	return files, err
})

// ownName is how places name a package of this module; external packages have none.
func ownName(importPath string) string {
	if importPath == module {
		return "sealmq"
	}
	own, _ := strings.CutPrefix(importPath, module+"/")
	if own == importPath {
		return ""
	}
	return own
}

func name(folder string) string { return cmp.Or(folder, "sealmq") }

func isStandard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// TestPackagesStayOnTheirLayer holds the tree against places.
func TestPackagesStayOnTheirLayer(t *testing.T) {
	imports := make(map[string][]string) // of each package, without its tests
	for _, f := range tree(t) {
		list := imports[name(f.pkg)]
		if !f.test {
			list = append(list, f.imports()...)
		}
		slices.Sort(list)
		imports[name(f.pkg)] = slices.Compact(list)
	}
	for _, problem := range checkLayers(places, imports) {
		t.Error(problem)
	}
}

func TestLayersRefuse(t *testing.T) {
	low, high := place{"low", ground, "", "net", "w"}, place{"high", parts, "low x/term", "", "w"}
	for _, tc := range []struct {
		name    string
		places  []place
		imports map[string][]string
		want    string
	}{
		{"nothing", []place{low, high}, map[string][]string{"low": {"os"}, "high": {"net", module + "/low", "golang.org/x/term"}}, ""},
		{"no place", []place{low}, map[string][]string{"low": nil, "high": nil}, "high has no place in the table of layers"},
		{"no package", []place{low}, map[string][]string{}, "low has a place and does not exist"},
		{"two places", []place{low, low}, map[string][]string{"low": nil}, "low has two places"},
		{"not allowed", []place{low, {"high", parts, "", "", "w"}}, map[string][]string{"low": nil, "high": {module + "/low"}}, "high may not import " + module + "/low: w"},
		{"not allowed, elsewhere", []place{low}, map[string][]string{"low": {"golang.org/x/term"}}, "low may not import golang.org/x/term: w"},
		{"upwards", []place{{"low", ground, "high", "", "w"}, {"high", parts, "", "", "w"}}, map[string][]string{"low": {module + "/high"}, "high": nil}, "low imports high, which is not on a lower layer"},
		{"sideways", []place{low, {"next", ground, "low", "", "w"}}, map[string][]string{"low": nil, "next": {module + "/low"}}, "next imports low, which is not on a lower layer"},
		{"allowed for nothing", []place{low, high}, map[string][]string{"low": nil, "high": {module + "/low"}}, "high may import x/term and does not: take it out of the table"},
		{"a socket by another", []place{{"low", ground, "", "", "w"}, {"high", parts, "low", "net", "w"}}, map[string][]string{"low": {"net"}, "high": {module + "/low"}}, "high reaches net by high → low: w"},
	} {
		if got := strings.Join(checkLayers(tc.places, tc.imports), "; "); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// checkLayers says what imports do not agree with the table.
func checkLayers(places []place, imports map[string][]string) (problems []string) {
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	at := make(map[string]layer)
	for _, p := range places {
		if _, twice := at[p.pkg]; twice {
			add("%s has two places", p.pkg)
		}
		if _, ok := imports[p.pkg]; !ok {
			add("%s has a place and does not exist", p.pkg)
		}
		at[p.pkg] = p.layer
	}
	for pkg := range imports {
		if _, ok := at[pkg]; !ok {
			add("%s has no place in the table of layers", pkg)
		}
	}
	for _, p := range places {
		may := strings.Fields(p.may)
		used := make(map[string]bool)
		for _, imported := range imports[p.pkg] {
			if isStandard(imported) {
				continue
			}
			own := ownName(imported)
			if own != "" && (at[own] >= p.layer && p.layer < program || at[own] == tests && p.layer < tests) {
				add("%s imports %s, which is not on a lower layer", p.pkg, own)
			}
			i := slices.IndexFunc(may, func(m string) bool {
				return m == "*" || m == own || own == "" && strings.Contains(imported+"/", "/"+m+"/")
			})
			if i < 0 {
				add("%s may not import %s: %s", p.pkg, imported, p.why)
				continue
			}
			used[may[i]] = true
		}
		for _, m := range may {
			if m != "*" && !used[m] {
				add("%s may import %s and does not: take it out of the table", p.pkg, m)
			}
		}
		for _, never := range strings.Fields(p.without) {
			if way := reaches(imports, p.pkg, never); way != "" {
				add("%s reaches %s by %s: %s", p.pkg, never, way, p.why)
			}
		}
	}
	return problems
}

// reaches is how a package reaches another one, or "".
func reaches(imports map[string][]string, from, to string) string {
	ways := map[string]string{from: from}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, imported := range imports[queue[0]] {
			if imported == to {
				return ways[queue[0]]
			}
			if own := ownName(imported); own != "" && ways[own] == "" {
				ways[own] = ways[queue[0]] + " → " + own
				queue = append(queue, own)
			}
		}
	}
	return ""
}

func TestDiskAndTimeComeThroughInterfaces(t *testing.T) {
	for _, f := range tree(t) {
		if f.test || !slices.Contains(seams, f.pkg) {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok || pkg.Obj != nil { // a variable of that name
				return true
			}
			if check := sealed[pkg.Name]; check != nil && slices.Contains(f.imports(), pkg.Name) {
				if why := check(sel.Sel.Name); why != "" {
					t.Errorf("%s uses %s.%s: %s", f.set.Position(n.Pos()), pkg.Name, sel.Sel.Name, why)
				}
			}
			return true
		})
	}
}

// TestPrivateFilesAreMadeInOnePlace: package durable also makes them private on Windows.
func TestPrivateFilesAreMadeInOnePlace(t *testing.T) {
	for _, f := range tree(t) {
		if f.test || f.pkg == "internal/durable" || strings.HasPrefix(f.pkg, "internal/testing/") || f.pkg == "cmd/sealmq/internal/demo" || f.pkg == "cmd/sealmq" && strings.HasSuffix(f.path, "bench_broker.go") {
			continue // the last two write into a folder that is private
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || fmt.Sprint(sel.X) != "os" {
				return true
			}
			for _, arg := range call.Args {
				if l, ok := arg.(*ast.BasicLit); ok && (l.Value == "0o600" || l.Value == "0o700" || l.Value == "0o400") {
					t.Errorf("%s calls os.%s; use that of package durable", f.set.Position(call.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	documented := make(map[string]bool)
	for _, f := range tree(t) {
		if f.test {
			continue
		}
		doc := strings.TrimSpace(f.ast.Doc.Text())
		documented[f.pkg] = documented[f.pkg] || strings.HasPrefix(doc, "Package ") || strings.HasPrefix(doc, "Command ")
	}
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", name(pkg))
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, f := range tree(t) {
		if !f.test || slices.Contains(f.imports(), "testing/synctest") {
			continue // there time.Sleep moves a clock and waits for nothing
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" {
					t.Errorf("%s: a test waits for a condition, not for time", f.set.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

func TestFuzzTargetsHaveSeeds(t *testing.T) {
	targets := 0
	for _, f := range tree(t) {
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !f.test || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			targets++
			seeds, _ := filepath.Glob(filepath.Join(filepath.FromSlash(f.pkg), "testdata", "fuzz", fn.Name.Name, "*"))
			if len(seeds) == 0 && !adds(fn) {
				t.Errorf("%s: %s has no seed, neither by f.Add nor in testdata/fuzz/%s", f.path, fn.Name.Name, fn.Name.Name)
			}
		}
	}
	if targets == 0 {
		t.Error("no fuzz target was found; is this test looking in the right place?")
	}
}

// adds reports whether a fuzz target adds seeds by itself.
func adds(fn *ast.FuncDecl) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" {
			found = true
		}
		return true
	})
	return found
}

func TestFilesAndFunctionsFitTheirReader(t *testing.T) {
	for _, f := range tree(t) {
		most := maxFileLines
		if f.test {
			most = maxTestLines
		}
		if f.size > most && !ast.IsGenerated(f.ast) {
			t.Errorf("%s has %d lines, more than %d: it probably has two subjects", f.path, f.size, most)
		}
		for _, d := range f.ast.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || f.test {
				continue
			}
			lines := f.set.Position(fn.End()).Line - f.set.Position(fn.Pos()).Line + 1
			if lines > maxFunctionLines {
				t.Logf("%s: %s has %d lines", f.path, fn.Name.Name, lines)
			}
		}
	}
}

var markers = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

func TestNothingIsLeftForLater(t *testing.T) {
	for _, f := range tree(t) {
		if f.path == "tidy_test.go" {
			continue
		}
		for _, group := range f.ast.Comments {
			if m := markers.FindString(group.Text()); m != "" {
				t.Errorf("%s: %s", f.set.Position(group.Pos()), m)
			}
		}
	}
}

// public are the packages that promise compatibility. A type of internal/ in what they
// export is one that nobody outside can name.
var public = []string{"client", "send", "receive", "keydir", "seal", "seal/ciphermq"}

func TestPublicPackagesExportNoInternalTypes(t *testing.T) {
	for _, f := range tree(t) {
		if f.test || !slices.Contains(public, f.pkg) {
			continue
		}
		internal := make(map[string]bool)
		for _, p := range f.imports() {
			if strings.Contains(p, "/internal/") {
				internal[path.Base(p)] = true
			}
		}
		look := func(n ast.Node) {
			ast.Inspect(n, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if pkg, ok := sel.X.(*ast.Ident); ok && internal[pkg.Name] {
						t.Errorf("%s exports %s.%s", f.set.Position(n.Pos()), pkg.Name, sel.Sel.Name)
					}
				}
				return true
			})
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d))) {
					look(d.Type)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					typ, ok := spec.(*ast.TypeSpec)
					if !ok || !typ.Name.IsExported() {
						continue
					}
					if s, ok := typ.Type.(*ast.StructType); ok {
						for _, field := range s.Fields.List {
							if slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
								look(field.Type)
							}
						}
					} else if !typ.Assign.IsValid() { // an alias has a name here
						look(typ.Type)
					}
				}
			}
		}
	}
}

// receiver is the name of the type that a method belongs to.
func receiver(d *ast.FuncDecl) string {
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	name, _ := typ.(*ast.Ident)
	if name == nil {
		return ""
	}
	return name.Name
}
