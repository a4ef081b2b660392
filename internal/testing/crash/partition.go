package crash

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/netns"
	"github.com/sealmq/sealmq/mtls"
)

// The hosts of a partitioned pipeline. A worker or proxy knows the main server with its number.
const (
	clientHost  = "client"
	queueHost   = "queue" // Redis, or a broker
	mariadbHost = "mariadb"
)

// links are the hosts that speak with each other. A link of one of two is not the only one.
var links = [][2]string{
	{clientHost, "proxy-1"}, {clientHost, "proxy-2"},
	{"proxy-1", queueHost}, {"proxy-2", queueHost}, {"worker-1", queueHost}, {"worker-2", queueHost}, {"main-1", queueHost}, {"main-2", queueHost},
	{"proxy-1", "main-1"}, {"proxy-2", "main-2"}, {"worker-1", "main-1"}, {"worker-2", "main-2"},
	{"main-1", mariadbHost}, {"main-2", mariadbHost},
}

// recovery is how long after a partition something may not work, and deliver nothing.
const recovery = time.Minute

// Partition runs a pipeline whose roles have hosts of their own, two of each, and again and
// again cuts two of them off from each other for a time. Clients submit meanwhile, to any
// proxy. During each partition messages are accepted; after it everything works again without
// a restart. It checks in the end what Pipeline checks.
func Partition(ctx context.Context, cfg Config, n *netns.Network, lasts time.Duration, logf func(string, ...any)) (r *Report, err error) {
	r = &Report{Kind: "partition", Seed: cfg.Seed}
	began := time.Now()
	rng := rand.New(rand.NewPCG(uint64(cfg.Seed), 3))
	a := newApart(cfg, n, logf)
	ctx, cancel := context.WithCancel(ctx)
	var load submissions
	defer func() {
		cancel()
		load.running.Wait()
		a.close()
		load.report(r)
		r.Elapsed = time.Since(began)
	}()
	if err := a.start(ctx); err != nil {
		return r, err
	}
	if a.http, err = a.clientOf("main-1", pipelineClient); err != nil {
		return r, err
	}
	load.start(ctx, a.http, rng, "https://"+a.hosts["proxy-1"].Addr("8001"), "https://"+a.hosts["proxy-2"].Addr("8001"))
	for r.Cuts < cfg.Cuts && !cfg.late() {
		link := links[rng.IntN(len(links))]
		if err := a.partition(ctx, link, lasts, &load, r); err != nil {
			return r, fmt.Errorf("%s without %s, partition %d: %w", link[0], link[1], r.Cuts, err)
		}
	}
	if err := load.finish(ctx); err != nil {
		return r, err
	}
	if err := waitDelivered(ctx, a.rows, load.answered()); err != nil {
		return r, err
	}
	return r, load.judge(a.rows, r)
}

// apart is a pipeline on hosts.
type apart struct {
	cfg     Config
	network *netns.Network
	hosts   map[string]*netns.Host
	rows    *sql.DB      // read without the product
	http    *http.Client // on the host of the clients
	env     []string
	roles   map[string]brokerproc.Config // how the process of a host was started
	running map[string]*brokerproc.Process
	closers []func()
	logf    func(format string, args ...any) // how it went
}

func newApart(cfg Config, n *netns.Network, logf func(string, ...any)) *apart {
	return &apart{cfg: cfg, network: n, logf: logf, hosts: make(map[string]*netns.Host), roles: make(map[string]brokerproc.Config), running: make(map[string]*brokerproc.Process)}
}

func (a *apart) close() {
	for host := range a.running {
		a.kill(host)
	}
	for _, c := range slices.Backward(a.closers) {
		c()
	}
}

// start makes the hosts and starts what is on them.
func (a *apart) start(ctx context.Context) error {
	for _, link := range links {
		for _, name := range link {
			if a.hosts[name] != nil {
				continue
			}
			h, err := a.network.Host(name)
			if err != nil {
				return err
			}
			a.hosts[name] = h
		}
	}
	url, name, err := a.cfg.MariaDB.Database()
	if err != nil {
		return err
	}
	port := url[strings.LastIndexByte(url, ':')+1 : strings.LastIndexByte(url, '/')]
	if err := a.forward(mariadbHost, "3306", net.JoinHostPort("127.0.0.1", port)); err != nil {
		return err
	}
	if a.rows, err = sql.Open("mysql", a.cfg.MariaDB.DSN(name)); err != nil {
		return err
	}
	a.closers = append(a.closers, func() { a.rows.Close() })
	a.env = append([]string{"SEALMQ_PROXY_RATE=-1", "SEALMQ_WORKER_RETRY_INTERVAL=1s",
		"SEALMQ_MAIN_DATABASE=" + strings.Replace(url, "127.0.0.1:"+port, a.hosts[mariadbHost].Addr("3306"), 1)}, env...)
	if a.cfg.Redis != nil {
		a.env = append(a.env, "SEALMQ_REDIS_ADDR="+a.hosts[queueHost].Addr("6379"), "SEALMQ_REDIS_PASSWORD="+a.cfg.Redis.Password())
		if err := a.forward(queueHost, "6379", a.cfg.Redis.Addr()); err != nil {
			return err
		}
	} else {
		a.env = append(a.env, "SEALMQ_PIPELINE_BROKER="+a.hosts[queueHost].Addr("5672"))
	}
	if err := a.startMain(ctx); err != nil {
		return err
	}
	for _, role := range []string{"proxy", "worker"} {
		for _, number := range []string{"1", "2"} {
			if err := a.startRole(ctx, role, number); err != nil {
				return err
			}
		}
	}
	return nil
}

// folder is the data folder of a host.
func (a *apart) folder(host string) string { return filepath.Join(a.cfg.Dir, host, "data") }

// startMain starts the broker, if there is one, and two main servers, which have the same
// authority and the same keys.
func (a *apart) startMain(ctx context.Context) error {
	if _, err := ca.Setup(a.folder("main-1"), []string{a.hosts["main-1"].IP, a.hosts["main-2"].IP, a.hosts[queueHost].IP}, ca.Options{}); err != nil {
		return err
	}
	if a.cfg.Redis == nil {
		if err := a.copyMain(ctx, queueHost); err != nil {
			return err
		}
		if err := a.run(ctx, queueHost, brokerproc.Config{Roles: []string{"broker"}, Addr: a.hosts[queueHost].Addr("5672")}); err != nil {
			return err
		}
	}
	for _, host := range []string{"main-1", "main-2"} {
		if err := a.run(ctx, host, brokerproc.Config{Roles: []string{"main"}, Env: []string{"SEALMQ_MAIN_ADDR=" + a.hosts[host].Addr("8000")}}); err != nil {
			return err
		}
		if host == "main-1" {
			if err := a.copyMain(ctx, "main-2"); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyMain gives another host the data folder of the first main server.
func (a *apart) copyMain(ctx context.Context, host string) error {
	to := a.folder(host)
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", a.folder("main-1"), to).CombinedOutput(); err != nil {
		return fmt.Errorf("cp: %w: %s", err, out)
	}
	return nil
}

// startRole starts a proxy or a worker with the files that the documentation says it needs.
func (a *apart) startRole(ctx context.Context, role, number string) error {
	host := role + "-" + number
	from, to := ca.In(a.folder("main-1")), ca.In(a.folder(host))
	authority, err := ca.Open(a.folder("main-1"), ca.Options{})
	if err != nil {
		return err
	}
	if _, err := authority.IssueFiles(ca.Request{Name: host, Role: sealmq.Role(role), IPs: []net.IP{net.ParseIP(a.hosts[host].IP)}}, "", false); err != nil {
		return err
	}
	for source, target := range map[string]string{from.Root: to.Root, from.Intermediate: to.Intermediate, from.CA: to.CA, from.Cert(host): to.Cert(role), from.Key(host): to.Key(role)} {
		if err := copyFile(source, target); err != nil {
			return err
		}
	}
	return a.run(ctx, host, brokerproc.Config{Roles: []string{role}, Env: []string{"SEALMQ_PIPELINE_MAIN=https://" + a.hosts["main-"+number].Addr("8000"),
		"SEALMQ_PROXY_ADDR=" + a.hosts[host].Addr("8001"), "SEALMQ_WORKER_ADDR=" + a.hosts[host].Addr("9100")}})
}

func copyFile(source, target string) error {
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	return os.WriteFile(target, data, 0o600)
}

// run starts a process on a host.
func (a *apart) run(ctx context.Context, host string, cfg brokerproc.Config) (err error) {
	cfg.Data, cfg.Log, cfg.Timeout, cfg.Env = a.folder(host), a.cfg.Log, patience, append(slices.Clip(a.env), cfg.Env...)
	if cfg.Exe, err = a.hosts[host].Program(a.cfg.Dir, a.cfg.Exe); err != nil {
		return err
	}
	a.roles[host] = cfg
	return a.again(ctx, host)
}

// again starts the process of a host that was killed.
func (a *apart) again(ctx context.Context, host string) error {
	p, err := brokerproc.Start(ctx, a.roles[host])
	if err == nil {
		a.running[host] = p
	}
	return err
}

func (a *apart) kill(host string) {
	a.running[host].Kill()
	delete(a.running, host)
}

// forward lets a server on this machine answer on a host. Like it, it keeps connections whose
// other end is silent.
func (a *apart) forward(host, port, to string) error {
	l, err := a.hosts[host].Listen(port)
	if err != nil {
		return err
	}
	a.closers = append(a.closers, func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			one := func(to, from net.Conn) {
				io.Copy(to, from)
				to.Close()
				from.Close()
			}
			go one(c, server)
			go one(server, c)
		}
	}()
	return nil
}

// answerWithin is how long a client waits for an answer.
const answerWithin = 5 * time.Second

// clientOf makes calls from the host of the clients, with a certificate that a main server issues.
func (a *apart) clientOf(main, name string) (*http.Client, error) {
	p := ca.In(a.folder(main))
	authority, err := ca.Open(p.Dir, ca.Options{})
	if err != nil {
		return nil, err
	}
	if _, err := authority.IssueFiles(ca.Request{Name: name}, "", false); err != nil {
		return nil, err
	}
	conf, err := mtls.ClientConfig(mtls.FilesIn(p.Certs(), name), mtls.ClientOptions{})
	if err != nil {
		return nil, err
	}
	t := &http.Transport{TLSClientConfig: conf, DialContext: a.hosts[clientHost].Dial, MaxIdleConnsPerHost: submitters}
	a.closers = append(a.closers, t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: answerWithin}, nil
}

// partition cuts one link for a time, and waits until everything works again.
func (a *apart) partition(ctx context.Context, link [2]string, lasts time.Duration, load *submissions, r *Report) error {
	before := load.answered()
	if err := a.network.Cut(a.hosts[link[0]], a.hosts[link[1]]); err != nil {
		return err
	}
	r.Cuts++
	pause(ctx, lasts)
	accepted := load.answered()
	if err := a.network.Mend(a.hosts[link[0]], a.hosts[link[1]]); err != nil {
		return err
	}
	if accepted == before {
		return fmt.Errorf("no message was accepted in %v", lasts)
	}
	began, moved, delivered := time.Now(), time.Now(), 0
	var healthy time.Duration // until the roles were, whatever still waits
	for {
		n, why := a.trouble(ctx, accepted)
		if n > 0 && healthy == 0 {
			healthy = time.Since(began)
		}
		if why == nil {
			break
		}
		if n > delivered { // a backlog may take longer
			moved, delivered = time.Now(), n
		}
		if time.Since(moved) > recovery {
			return fmt.Errorf("%v after it ended: %w", time.Since(began).Round(time.Second), why)
		}
		if !pause(ctx, min(100*time.Millisecond+time.Since(began)/10, 2*time.Second)) { // counting costs too
			return ctx.Err()
		}
	}
	took := time.Since(began)
	r.Recovery = max(r.Recovery, took)
	a.logf("partition %d: %s without %s: %d messages accepted, all roles healthy after %v, all these delivered after %v", r.Cuts, link[0], link[1], accepted-before, healthy.Round(time.Millisecond), took.Round(time.Millisecond))
	return nil
}

// trouble says what does not work: a role that is not healthy, or messages that were accepted
// and are not delivered. It returns how many are.
func (a *apart) trouble(ctx context.Context, accepted int) (delivered int, err error) {
	for _, url := range []string{"https://proxy-1:8001/health", "https://proxy-2:8001/health", "https://main-1:8000/health", "https://main-2:8000/health",
		"http://worker-1:9100/health/ready", "http://worker-2:9100/health/ready"} {
		host := strings.Split(url, "/")[2]
		name, _, _ := strings.Cut(host, ":")
		if err := a.unwell(ctx, strings.Replace(url, name, a.hosts[name].IP, 1)); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
	}
	err = a.rows.QueryRowContext(ctx, "SELECT COUNT(*) FROM messages WHERE status = 'delivered'").Scan(&delivered)
	if err == nil && delivered < accepted {
		err = fmt.Errorf("%d of %d messages are delivered", delivered, accepted)
	}
	return delivered, err
}

// unwell is what a role says of its health, unless that is good.
func (a *apart) unwell(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var h struct{ Status string }
	if err := json.Unmarshal(body, &h); err != nil || h.Status != "healthy" && h.Status != "ok" {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	return nil
}
