package coordinator

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/understudy-ha/understudy/coordinator/serve"
)

// configured has the lead write the queue configuration that has come into force.
func (r *replica) configured() {
	if l := r.lead.Load(); l != nil {
		l.Configured()
	}
}

// configuration is what the status says of the queue configuration.
func (r *replica) configuration() serve.Configuration {
	c := r.standby.Configuration()
	status := serve.Configuration{Source: c.Source, Epoch: c.Epoch}
	if c.Source != "" {
		status.Accepted = c.Accepted.Time()
	}
	if c.Err != nil {
		status.Error = c.Err.Error()
	}
	return status
}

// measureConfiguration makes known whether the ConfigMaps' configuration is in force.
func (r *replica) measureConfiguration() {
	r.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "understudy_configuration_valid",
		Help: "1 if the queue configuration in the ConfigMaps is in force, 0 while it is not valid.",
	}, func() float64 {
		if c := r.standby.Configuration(); c.Source != "" && c.Err == nil {
			return 1
		}
		return 0
	}))
}
