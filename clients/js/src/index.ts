export { Doorbell } from './doorbell.js';
export type { Environment, WebSocketConstructor } from './environment.js';
export type {
  CloseEvent, DoorbellEvents, DoorbellOptions, GapEvent, Message, Position, State, StateEvent, Token, TransportName,
  WelcomeEvent,
} from './types.js';
