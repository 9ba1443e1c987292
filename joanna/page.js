"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const play = audio => audio.play().catch(error => { if (error.name != 'AbortError') throw error; });  // of a pause
function addElement(parent, tag, properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  parent.append(element);
  return element;
}
function addShape(svg, tag, attributes, text) {
  const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const name in attributes) shape.setAttribute(name, attributes[name]);
  if (text) shape.textContent = text;
  svg.append(shape);
  return shape;
}
const formatSeconds = seconds => seconds.toFixed(1) + " s";
