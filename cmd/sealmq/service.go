package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/kardianos/service"
	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/internal/clock"
)

// serviceUnit is the unit of systemd. The files in deploy/systemd are made from it.
//
//go:embed sealmq.service
var serviceUnit string

// serviceUser is who runs a service on Linux.
const serviceUser = "sealmq"

// serviceConfig describes the service of a node. Its paths are absolute: a service has no folder
// that a person chose. home is where it runs, and on Linux all that it may write to.
func serviceConfig(wanted []string, config, data, home, user string) *service.Config {
	name, what := "sealmq", "all roles"
	if len(wanted) > 0 {
		name, what = "sealmq-"+strings.Join(wanted, "-"), strings.Join(wanted, ", ")
	}
	c := &service.Config{Name: name, DisplayName: "SealMQ (" + what + ")", Description: "SealMQ: " + what,
		Arguments: append([]string{"serve"}, wanted...), WorkingDirectory: home,
		Option: service.KeyValue{"SystemdScript": serviceUnit, "OnFailure": "restart", "OnFailureDelayDuration": "60s"}}
	if config != "" {
		c.Arguments = append(c.Arguments, "--config", config)
	}
	c.Arguments = append(c.Arguments, "--data", data)
	if runtime.GOOS == "linux" {
		c.UserName = user
	}
	return c
}

// serviceHome is the home folder of a service's user, if the data folder is in it: the copy of the
// revocations is beside the data folder. Elsewhere the service writes to its data folder only.
func serviceHome(data, name string) string {
	u, err := user.Lookup(name)
	if parent := filepath.Dir(data); err == nil && parent == filepath.Clean(u.HomeDir) && parent != filepath.Dir(parent) {
		return parent
	}
	return data
}

// checkUnitPath refuses a path that a unit of systemd cannot name: its settings differ in what they
// quote and replace.
func checkUnitPath(path string) error {
	if i := strings.IndexAny(path, " \t\r\n\"'\\%$"); i >= 0 {
		return withHint(fmt.Errorf("a unit of systemd cannot name %q because of its %q", path, path[i:i+1]), "choose a path without blanks, quotation marks, backslashes, %% and $")
	}
	return nil
}

func newServiceCmd() *cobra.Command {
	var name string
	verb := func(use, short string, do func(a call, s service.Service) error) *cobra.Command {
		cmd := &cobra.Command{Use: use + " [ROLE...]", Short: short, Args: checkRoles, ValidArgs: roles}
		if use == "install" {
			cmd.Long = `Install a node as a service of the system: a unit of systemd, a service of Windows, or a daemon of launchd. It
runs "sealmq serve" with these roles, and with the data folder and the configuration file that --data and --config
name now. On Linux it runs as the user that --user names, who must exist and own the data folder. If the data
folder is in the home folder of that user, the service may write to all of the latter, otherwise only to the former.

This needs an administrator. Start the service with "sealmq service start".`
			cmd.Example = `  sealmq service install --config /etc/sealmq/sealmq.yaml --data /var/lib/sealmq/data
  sealmq service install proxy worker --config /etc/sealmq/sealmq.yaml --data /var/lib/sealmq/data`
			cmd.Flags().StringVar(&name, "user", serviceUser, "on Linux, run as this `user`")
		}
		return standalone(cmd, func(a call) error {
			set, err := readSettings(cmd, (*Config).Validate)
			if err != nil {
				return err
			}
			config := ""
			if set.file != "" && exists(set.file) {
				if config, err = filepath.Abs(set.file); err != nil {
					return err
				}
			}
			data, err := filepath.Abs(set.Data)
			if err != nil {
				return err
			}
			if err := hasServiceManager(service.Platform()); err != nil {
				return err
			}
			if use == "install" && runtime.GOOS == "linux" {
				if err := cmp.Or(checkUnitPath(data), checkUnitPath(config)); err != nil {
					return err
				}
			}
			c := serviceConfig(a.args, config, data, serviceHome(data, name), name)
			s, err := service.New(nil, c)
			if err == nil {
				err = do(a, s)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", service.Platform(), err)
			}
			return withHint(err, "%s", serviceHint(c.Name, use, a.args, os.Geteuid() == 0, hasUnit(c.Name)))
		})
	}
	simple := func(done string, do func(service.Service) error) func(call, service.Service) error {
		return func(a call, s service.Service) error {
			return a.report(do(s), result{"service": s.String(), "result": done}, "%s %s", done, s)
		}
	}
	return group("service", "Run a node as a service of the system",
		verb("install", "Install a node as a service", simple("installed", service.Service.Install)),
		verb("uninstall", "Remove the service; its data stays", simple("removed", service.Service.Uninstall)),
		verb("start", "Start the service", simple("started", service.Service.Start)),
		verb("stop", "Stop the service", simple("stopped", service.Service.Stop)),
		verb("status", "Say whether the service runs", func(a call, s service.Service) error {
			status, err := s.Status()
			text := map[service.Status]string{service.StatusRunning: "runs", service.StatusStopped: "is stopped"}[status]
			if errors.Is(err, service.ErrNotInstalled) {
				text, err = "is not installed", nil
			}
			if text == "" {
				text = "is in an unknown state"
			}
			return a.report(err, result{"service": s.String(), "status": text}, "%s %s", s, text)
		}))
}

// hasServiceManager reports what is missing on a system that has nothing to run services with.
func hasServiceManager(platform string) error {
	if runtime.GOOS != "linux" || platform == "linux-systemd" {
		return nil
	}
	return withHint(errors.New("services of Linux need systemd, and it does not run here"),
		`run "sealmq serve" with what starts programs here, for example as the command of a container`)
}

// hasUnit reports whether systemd has a unit of this name.
func hasUnit(name string) bool {
	return slices.ContainsFunc([]string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"},
		func(dir string) bool { return exists(filepath.Join(dir, name+".service")) })
}

// serviceHint says what to do about a service manager that refused. Of the manager's own text the
// library keeps nothing but the exit status.
func serviceHint(name, use string, wanted []string, root, installed bool) string {
	install := strings.Join(append([]string{"sealmq service install"}, wanted...), " ")
	switch {
	case runtime.GOOS != "linux":
		return "services are administered by root, or by an administrator of Windows; a service is found by its roles, as they were given to install"
	case !root && use != "status":
		return "services are administered by root"
	case installed && use == "install":
		return `it is installed already; to install it again, run "sealmq service uninstall" with the same roles first`
	case installed:
		return fmt.Sprintf(`"systemctl status %s" and "journalctl -u %[1]s" say why`, name)
	case use == "install":
		return `docs/operations/services.md has the steps`
	default:
		return fmt.Sprintf("there is no service %s; %q installs it; a service is found by its roles, as they were given to install", name, install)
	}
}

// runAsService runs a command line for the service manager of Windows, which asks for more than a
// process that ends on a signal. It reports whether this process is a service.
func runAsService(args []string) (bool, error) {
	if runtime.GOOS != "windows" || service.Interactive() {
		return false, nil
	}
	p := &windowsService{args: args, done: make(chan error, 1)}
	wanted := slices.DeleteFunc(slices.Clone(args), func(word string) bool { return !slices.Contains(roles, word) })
	s, err := service.New(p, serviceConfig(wanted, "", "", "", ""))
	if err != nil {
		return true, err
	}
	p.log, _ = s.Logger(nil)
	return true, s.Run()
}

// windowsService is a node under the service manager of Windows.
type windowsService struct {
	args []string
	log  service.Logger // the system's events; may be nil
	end  context.CancelFunc
	done chan error
}

// Start begins to run the node.
func (p *windowsService) Start(service.Service) error {
	ctx, end := context.WithCancel(context.Background())
	p.end = end
	go func() {
		p.tell(service.Logger.Info, "starts")
		err := run(ctx, p.args, io.Discard, io.Discard)
		if err != nil {
			p.tell(service.Logger.Error, "ended: "+err.Error())
		} else {
			p.tell(service.Logger.Info, "stopped")
		}
		p.done <- err
		if ctx.Err() == nil { // nobody stopped it, so the manager shall see a failure
			os.Exit(1)
		}
	}()
	return nil
}

// tell writes into the system's log of events. The node's own log has everything else.
func (p *windowsService) tell(level func(service.Logger, ...any) error, text string) {
	if p.log != nil {
		_ = level(p.log, "sealmq "+strings.Join(p.args, " ")+" "+text)
	}
}

// Stop ends the node and waits for it.
func (p *windowsService) Stop(service.Service) error {
	p.end()
	return <-p.done
}

// notifySystemd tells systemd, if that started this process, what the node does.
func (n *node) notifySystemd(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("systemd cannot be told how this node is", "err", err)
	}
}

// feedWatchdog tells systemd that this process is alive, if it wants to know.
func (n *node) feedWatchdog(ctx context.Context) error {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return nil
	}
	for {
		n.notifySystemd(daemon.SdNotifyWatchdog)
		if clock.Sleep(ctx, clock.System, every/3) != nil {
			return nil
		}
	}
}
