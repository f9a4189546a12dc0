package protocol

// SchedulingPolicyParameters tunes gang scheduling for one application. It
// does not change once it has been made.
type SchedulingPolicyParameters struct {
	placeholderTimeout  int64
	gangSchedulingStyle string
}

// NewSchedulingPolicyParameters makes the parameters of a placeholder timeout,
// in seconds with zero for the default, and a gang scheduling style, Soft or
// Hard.
func NewSchedulingPolicyParameters(placeholderTimeout int64, gangSchedulingStyle string) *SchedulingPolicyParameters {
	return &SchedulingPolicyParameters{
		placeholderTimeout:  placeholderTimeout,
		gangSchedulingStyle: gangSchedulingStyle,
	}
}

// GetGangSchedulingStyle returns what becomes of a gang that is not complete in
// time: Soft runs it as ordinary pods, Hard fails it.
func (spp *SchedulingPolicyParameters) GetGangSchedulingStyle() string {
	return spp.gangSchedulingStyle
}

// GetPlaceholderTimeout returns for how many seconds placeholders hold their
// places; zero selects the default.
func (spp *SchedulingPolicyParameters) GetPlaceholderTimeout() int64 {
	return spp.placeholderTimeout
}
