// The tool that the probes offer, and the question that asks for it. The demo server calls it for Paris.
export const ASKED = "What is the weather in Rome? Use the tool get_weather.";
export const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const getWeather = ({ city }) => `Rain in ${city}`;
