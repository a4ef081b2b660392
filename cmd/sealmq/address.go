package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// checkAddress checks that a setting is host:port, and says what it probably should be.
func checkAddress(key, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil || strings.ContainsAny(addr, "/ ") {
		return fmt.Errorf("%q is not host:port%s", addr, nearAddress(key, addr))
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	return nil
}

// nearAddress suggests an address: without the parts of a URL, and with the port that the
// setting has by default.
func nearAddress(key, addr string) string {
	if _, rest, ok := strings.Cut(addr, "://"); ok {
		addr = rest
	}
	addr, _, _ = strings.Cut(addr, "/")
	if _, _, err := net.SplitHostPort(addr); err != nil {
		_, port, _ := net.SplitHostPort(defaultConfig().field(key).value.String())
		if _, err := strconv.Atoi(addr); err == nil { // a port alone
			addr, port = "127.0.0.1", addr
		}
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), port)
	}
	if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" || strings.ContainsAny(addr, " ") {
		return ""
	}
	return "; did you mean " + addr + "?"
}

// dialAddr is the address to dial on this machine for a server that listens on addr. setting
// is where addr comes from.
func dialAddr(setting, addr string) (string, error) {
	key := setting
	if setting == "--addr" {
		key = "server.addr"
	}
	if err := checkAddress(key, addr); err != nil {
		return "", usagef("%s: %w", setting, err)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if port == "0" {
		return "", usagef("%s: the server chooses its port when it starts; name the address that it printed", setting)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// ownAddresses are the addresses of this machine, for a hint.
func ownAddresses() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	var list []string
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLinkLocalUnicast() && len(list) < 8 {
			list = append(list, ip.IP.String())
		}
	}
	return strings.Join(list, ", ")
}
