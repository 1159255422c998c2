package doctor

import "github.com/hachi-run/hachi/internal/probe"

// Features are the findings about eBPF: what a pod goes without where one is not OK.
func Features() []Finding {
	results := probe.Features()
	out := make([]Finding, len(results))
	for k, r := range results {
		out[k] = finding(r)
	}
	return out
}

func finding(r probe.Result) Finding {
	switch r.Answer {
	case probe.Yes:
		return ok(r.Name, r.For, "since %s", r.Needs)
	case probe.No:
		return missing(r.Name, r.For, r.Needs, "%s", r.Why)
	}
	return unknown(r.Name, r.For, "%s", r.Why)
}
